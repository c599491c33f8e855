"""The command lines of an install, whole."""

from pathlib import Path

import pytest

from comfyworker.comfyui.installing import commands

PYTHON = Path("/c/.venv/bin/python")
PIP = [str(PYTHON), "-I", "-u", "-m", "pip", "--no-input", "--disable-pip-version-check"]
CPU_PINS = ["--constraint", str(commands.TORCH_CPU_PINS)]
GPU_PINS = ["--constraint", str(commands.TORCH_GPU_PINS)]


def test_torch_for_cpu_from_its_own_index() -> None:
    """Where the index with builds without GPU answers, torch and torchvision come from it, at their pins."""
    packages = ["torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu"]
    expected = [*PIP, "install", "--progress-bar", "off", *CPU_PINS, *packages]
    assert commands.install_torch_cpu(PYTHON, has_index=True) == expected


def test_torch_for_cpu_without_that_index() -> None:
    """Where it does not, pip is asked for torch alone, so that no CUDA build of its kin comes along."""
    expected = [*PIP, "install", "--progress-bar", "off", *CPU_PINS, "torch"]
    assert commands.install_torch_cpu(PYTHON, has_index=False) == expected


def test_torch_for_gpu_fits_the_driver() -> None:
    """With a GPU uv chooses the build by the driver, and no newer one than was tried."""
    packages = ["torch", "torchvision", "torchaudio"]
    expected = ["/uv", "pip", "install", "--python", str(PYTHON), "--torch-backend=auto", *GPU_PINS, *packages]
    assert commands.install_torch_gpu("/uv", PYTHON) == expected


def test_requirements_are_held_by_both_pins() -> None:
    """Torch's pins hold while the requirements are installed, or one of them would replace it."""
    pins = commands.version_pins("0.3.75")
    command = commands.install_requirements_cpu(PYTHON, Path("/r.txt"), pins=pins)
    held = [*CPU_PINS, "--constraint", str(commands.PINS / "comfyui-0.3.75.txt")]
    assert command == [*PIP, "install", "--progress-bar", "off", *held, "-r", "/r.txt"]


@pytest.mark.parametrize("version", ["0.3.64", None])
def test_another_version_has_no_pins_of_its_own(version: str | None) -> None:
    """What was seen working with one version does not hold another back."""
    assert commands.version_pins(version) == ()


def test_the_package_is_checked_by_its_hash() -> None:
    """The wheel is downloaded without its dependencies and only with the hash that is pinned."""
    command = commands.download_package(PYTHON, Path("/target"))
    flags = ["download", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    assert command == [*PIP, *flags, "--dest", "/target", "-r", str(commands.PACKAGE_PINS)]


def test_pins_are_exact_and_name_no_machine() -> None:
    """Every line of a version's pins is `name==version`: no path, no local build."""
    lines = (commands.PINS / "comfyui-0.3.75.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if line.count("==") != 1 or "+" in line or "@" in line or "/" in line] == []
    assert not {line.split("==")[0] for line in pins} & {"torch", "torchvision", "torchaudio"}


def test_git_fetches_one_ref_without_history() -> None:
    """A tag, a branch and a commit are fetched the same way."""
    here = ["git", "-C", "/t"]
    assert commands.fetch_git("git", Path("/t"), "https://host/repo", "v0.3.75") == [
        ["git", "init", "--quiet", "/t"],
        [*here, "remote", "add", "origin", "https://host/repo"],
        [*here, "fetch", "--progress", "--depth", "1", "--no-tags", "origin", "v0.3.75"],
        [*here, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ]


def test_requirements_are_left_out_by_their_name() -> None:
    """A name is told from another that begins with it, and from its version and extras."""
    text = "torch\ntorchsde\nTorchaudio>=2 ; python_version > '3'\n# torch\ntorch[opt]==2\n\nPillow\n"
    assert commands.select_requirements(text, without=("torch", "torchaudio")) == "torchsde\n# torch\n\nPillow\n"
