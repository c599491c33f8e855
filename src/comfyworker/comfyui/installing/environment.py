"""ComfyUI's own Python environment: made, filled with torch and the requirements, and proven."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import uv

from comfyworker.comfyui.installing import commands
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.running import CommandFailed, run_command
from comfyworker.errors import InstallFailed

_MINIMUM_PYTHON = (3, 11)
_REACH_LIMIT_S = 5.0
_TORCH_LIMIT_S = 300.0
_BOOT_LIMIT_S = 900.0
_PACKAGES_HINT = (
    "Look at the output above; when it is the network or the disk, mend that and run the same command again: "
    "what was downloaded is kept."
)


async def choose_interpreter(named: Path | None) -> Path:
    """Return the interpreter that the environment will be made with.

    Raises:
        InstallFailed: it cannot be run, or is too old.
    """
    found = shutil.which(named) if named else sys.executable
    if not found:
        raise InstallFailed("--python names no program that can be run", hint="Name a Python, as /usr/bin/python3.12.")
    script = "import sys; print(*sys.version_info[:2])"
    try:
        *_, answer = await run_command([found, "-I", "-c", script], limit_s=_REACH_LIMIT_S * 4)
        version = tuple(int(part) for part in answer.split())
    except (CommandFailed, ValueError) as error:
        raise InstallFailed("--python names a program that is no Python", hint="Name a Python interpreter.") from error
    if version < _MINIMUM_PYTHON:
        wanted = ".".join(map(str, _MINIMUM_PYTHON))
        raise InstallFailed(
            f"Python {'.'.join(map(str, version))} is too old for ComfyUI's requirements, which need {wanted}",
            hint="Name a newer one with --python.",
        )
    return Path(found)


async def make_environment(interpreter: Path, environment: Path, reporter: InstallReporter) -> Path:
    """Make an empty environment, in place of any that is there, and return its interpreter.

    Raises:
        InstallFailed: it could not be made.
    """
    # An interrupted pip can leave a package that counts as installed and lacks half of its files.
    await asyncio.to_thread(_remove_folder, environment)
    try:
        await run_command(commands.make_environment(interpreter, environment), on_line=reporter.line)
    except CommandFailed as error:
        hint = "On Debian and Ubuntu install python3-venv first, or name another interpreter with --python."
        raise error.to_install_failed("no Python environment could be made", hint) from error
    return environment / "bin" / "python"


async def install_torch(python: Path, *, is_cpu: bool, reporter: InstallReporter) -> None:
    """Install torch: a build without GPU, or the one that fits this machine's GPU driver.

    Raises:
        InstallFailed: pip or uv failed.
    """
    if not is_cpu:
        await _install(commands.install_torch_gpu(uv.find_uv_bin(), python), "torch could not be installed", reporter)
        return
    has_index = await can_reach_index()
    command = commands.install_torch_cpu(python, has_index=has_index)
    await _install(command, "torch could not be installed", reporter)
    if not has_index:
        reporter.note("download.pytorch.org does not answer: torchaudio is left out, and with it the audio nodes.")
        return
    try:
        await run_command(commands.install_torchaudio_cpu(python), on_line=reporter.line)
    except CommandFailed:
        reporter.note("There is no torchaudio for this torch: it is left out, and with it the audio nodes.")


async def can_reach_index() -> bool:
    """Tell whether the index with torch's builds without GPU answers."""
    host = commands.CPU_INDEX.split("/")[2]
    try:
        async with asyncio.timeout(_REACH_LIMIT_S):
            _, writer = await asyncio.open_connection(host, 443, ssl=True)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def install_requirements(
    python: Path, tree: Path, *, version: str | None, is_cpu: bool, reporter: InstallReporter
) -> None:
    """Install what ComfyUI's requirements.txt names; torch and its kin are there already, or left out on purpose.

    Raises:
        InstallFailed: pip or uv failed.
    """
    text = (tree / "requirements.txt").read_text(encoding="utf-8")
    # PyPI's torchaudio is built for CUDA and does not load beside a CPU build of torch.
    selected = commands.select_requirements(text, without=("torch", "torchaudio") if is_cpu else ())
    requirements = python.parent.parent / "comfyui-requirements.txt"
    requirements.write_text(selected, encoding="utf-8")
    pins = commands.version_pins(version)
    if is_cpu:
        command = commands.install_requirements_cpu(python, requirements, pins=pins)
    else:
        command = commands.install_requirements_gpu(uv.find_uv_bin(), python, requirements, pins=pins)
    await _install(command, "ComfyUI's requirements could not be installed", reporter)


async def read_torch_version(python: Path) -> str:
    """Return the version of the torch in the environment, which it must be able to import.

    Raises:
        InstallFailed: torch cannot be imported.
    """
    command = commands.python_command(python, "-c", "import torch; print(torch.__version__)")
    try:
        *_, version = await run_command(command, limit_s=_TORCH_LIMIT_S)
    except (CommandFailed, ValueError) as error:
        hint = "Run the command again with --force; if it fails again, name another interpreter with --python."
        if isinstance(error, CommandFailed):
            raise error.to_install_failed("torch was installed but cannot be imported", hint) from error
        raise InstallFailed("torch was installed but does not tell its version", hint=hint) from error
    return version


async def boot_once(installation: Installation, *, is_cpu: bool, reporter: InstallReporter) -> None:
    """Start ComfyUI up to the point where it would serve, and let it end there.

    Raises:
        InstallFailed: it did not get so far.
    """
    command = installation.command(["--quick-test-for-ci", *(["--cpu"] if is_cpu else [])])
    try:
        await run_command(
            command, on_line=reporter.line, cwd=installation.path, extra_env={"HF_HUB_OFFLINE": "1"},
            limit_s=_BOOT_LIMIT_S,
        )  # fmt: skip
    except CommandFailed as error:
        hint = "The output above says where it stopped. With --no-check the install is kept without this trial."
        raise error.to_install_failed("ComfyUI was installed but does not start", hint) from error


def _remove_folder(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


async def _install(command: list[str], message: str, reporter: InstallReporter) -> None:
    try:
        await run_command(command, on_line=reporter.line)
    except CommandFailed as error:
        raise error.to_install_failed(message, _PACKAGES_HINT) from error
