"""What the image installs by hash is what ComfyUI asks for, and runs on the GPUs that it is for."""

import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.dockerfile import read_dockerfile
from support.source import REPOSITORY

LOCK = (REPOSITORY / "requirements/comfyui.lock").read_text(encoding="utf-8")
VERSIONS: dict[str, str] = {
    str(canonicalize_name(name)): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)
}
PINS = (REPOSITORY / "src/comfyworker/comfyui/pins/comfyui-0.3.75.txt").read_text(encoding="utf-8")


def test_torch_is_built_for_cuda_12_8() -> None:
    """Torch is 2.9 or newer, and the CUDA that it brings along is 12.8, which RTX 40 and 50, A and H series have."""
    assert tuple(int(part) for part in VERSIONS["torch"].split(".")[:2]) >= (2, 9)
    assert VERSIONS["nvidia-cuda-runtime-cu12"].startswith("12.8.")
    assert {"torchvision", "torchaudio", "triton"} <= set(VERSIONS)


def test_the_pins_of_an_install_hold_in_the_image_too() -> None:
    """A package that both name has the version that was seen working."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", PINS, re.MULTILINE))
    assert {name: VERSIONS.get(canonicalize_name(name), pin) for name, pin in pins.items()} == pins


def test_each_package_has_a_hash() -> None:
    """No package is installed on its name alone."""
    for name in ("comfyui", "jupyter", "runpod"):
        text = (REPOSITORY / f"requirements/{name}.lock").read_text(encoding="utf-8")
        entries = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_it_has_what_comfyui_asks_for() -> None:
    """Each line of ComfyUI's requirements.txt, as the file beside the lock repeats it, is met by the lock."""
    text = (REPOSITORY / "requirements/comfyui.in").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-"))]
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(VERSIONS[canonicalize_name(requirement.name)]), requirement


def test_the_steps_are_run_with_the_uv_that_the_tests_have() -> None:
    """The Dockerfile's uv is the one in the worker's lock."""
    lock = (REPOSITORY / "requirements/runpod.lock").read_text(encoding="utf-8")
    [version] = re.findall(r"^uv==(\S+)", lock, re.MULTILINE)
    assert read_dockerfile().stages["uv"].base == f"ghcr.io/astral-sh/uv:{version}"
