"""An installed ComfyUI: it starts through the launcher, and an install leaves it alone."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfyworker.comfyui.install_record import FolderState, read_state
from comfyworker.comfyui.installing import InstallRequest, install_comfyui
from comfyworker.comfyui.locate import Installation, find_comfyui
from comfyworker.comfyui.model_folders import ModelFolder, UnreadableExtraPaths, read_extra_paths
from comfyworker.comfyui.running import CommandFailed, run_command
from comfyworker.comfyui.torch_probe import probe_torch
from comfyworker.settings import ComfyUISettings
from support.eventually import eventually
from support.processes import is_running
from support.real_comfyui import Install, comfyui_environ, lay_out

# ComfyUI warns when torch was imported before it; the script fails likewise, and then imports torchvision whole.
SCRIPT = """
import sys, os
assert "torch" not in sys.modules
import torchvision.transforms
assert "torch" in sys.modules
print(__name__, __file__, sys.path[0], sys.argv[1:], os.getcwd())
"""


class Silence:
    """A reporter for installs that have nothing to tell."""

    def step(self, number: int, total: int, title: str) -> None:
        """Called when a step begins: here none should."""
        raise AssertionError((number, total, title))

    def line(self, text: str) -> None:
        """Called for output: here none should."""
        raise AssertionError(text)

    def note(self, text: str) -> None:
        """Called with a remark: here none should."""
        raise AssertionError(text)


@pytest.fixture
def installation(comfyui_install: Install) -> Installation:
    """Return the installed ComfyUI as the worker finds it."""
    settings = ComfyUISettings(path=comfyui_install.path, python=comfyui_install.python)
    found = find_comfyui(settings, cwd=Path.cwd())
    assert found is not None
    return found


def test_it_starts_through_the_launcher(installation: Installation, tmp_path: Path, checkpoint: Path) -> None:
    """ComfyUI comes up to where it would serve, with torch not imported before its time."""
    base_dir = lay_out(tmp_path / "base", checkpoint)
    command = installation.command(["--quick-test-for-ci", "--cpu", "--base-directory", str(base_dir)])
    done = subprocess.run(
        command, cwd=base_dir, env=comfyui_environ(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Torch already imported" not in done.stderr + done.stdout
    assert installation.version is not None


def test_a_launched_script_is_as_if_called_itself(installation: Installation, tmp_path: Path) -> None:
    """Name, file, path, arguments and working directory are those of `python main.py`; torchvision can be imported."""
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(SCRIPT)
    launched = installation.model_copy(update={"path": folder}).command(["--a", "b c"])
    done = subprocess.run(launched, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = f"__main__ {folder / 'main.py'} {folder} ['--a', 'b c'] {tmp_path}\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_exit_code_of_a_launched_script_is_kept(installation: Installation, tmp_path: Path) -> None:
    """ComfyUI's own exit code reaches the one who started it."""
    (tmp_path / "main.py").write_text("raise SystemExit(7)")
    command = installation.model_copy(update={"path": tmp_path}).command()
    assert subprocess.run(command, check=False).returncode == 7


async def test_an_installed_comfyui_is_left_alone(installation: Installation) -> None:
    """A second install changes no file, begins no step, and tells the version that is there."""
    assert read_state(installation.path) in (FolderState.WHOLE, FolderState.FOREIGN)
    files = [path for path in installation.path.iterdir() if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files if path.suffix != ".lock"}
    outcome = await install_comfyui(InstallRequest(path=installation.path), Silence())
    assert (outcome.is_new, outcome.version) == (False, installation.version)
    assert {path: path.stat().st_mtime_ns for path in before} == before


async def test_torch_is_asked_in_its_own_interpreter(installation: Installation) -> None:
    """Doctor learns the version of the torch that ComfyUI will use."""
    facts = await probe_torch(installation.python)
    assert facts is not None
    assert facts.error is None
    assert facts.torch is not None


async def test_extra_model_paths_are_read(installation: Installation, tmp_path: Path) -> None:
    """The file is read by ComfyUI's interpreter, and folders that are not there are told as such."""
    (tmp_path / "extra_model_paths.yaml").write_text("shared:\n  base_path: /nowhere\n  loras: |\n    a\n    b\n")
    assert await read_extra_paths(tmp_path, installation.python) == tuple(
        ModelFolder(name="loras", path=Path("/nowhere") / name, exists=False, files=0, size_bytes=0) for name in "ab"
    )


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n"])
async def test_extra_model_paths_that_comfyui_could_not_read(
    installation: Installation, tmp_path: Path, text: str
) -> None:
    """A file with which ComfyUI would not start is told, and does not end the diagnosis."""
    (tmp_path / "extra_model_paths.yaml").write_text(text)
    with pytest.raises(UnreadableExtraPaths):
        await read_extra_paths(tmp_path, installation.python)


async def test_a_program_gives_its_last_lines() -> None:
    """Both streams are read, escape codes are taken out, and progress bars count line by line."""
    script = r"import sys; sys.stdout.write('10%\r\x1b[31m20%\x1b[0m\n'); sys.stdout.flush(); sys.exit('end')"
    with pytest.raises(CommandFailed) as caught:
        await run_command([sys.executable, "-c", script])
    assert (str(caught.value), caught.value.tail) == (
        f"{Path(sys.executable).name} ended with code 1",
        ("10%", "20%", "end"),
    )


async def test_a_program_that_is_not_there() -> None:
    """The failure names the program."""
    with pytest.raises(CommandFailed, match="nowhere is not there"):
        await run_command(["/bin/nowhere"])


async def test_a_program_that_takes_too_long_is_killed() -> None:
    """Past its limit a program and its children are gone."""
    pids: list[int] = []
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); input()"
    script = script.replace("input()", "__import__('signal').pause()")
    with pytest.raises(CommandFailed, match="took longer than"):
        await run_command([sys.executable, "-c", script], on_line=lambda line: pids.append(int(line)), limit_s=3.0)
    assert len(pids) == 1
    await eventually(lambda: not is_running(pids[0]))


async def test_a_program_does_not_outlive_the_worker() -> None:
    """When the worker is killed, what it runs for an install ends: it would write into what comes after it."""
    script = (
        "import asyncio, sys\nfrom comfyworker.comfyui.running import run_command\n"
        'child = "import os, signal; print(os.getpid(), flush=True); signal.pause()"\n'
        "asyncio.run(run_command([sys.executable, '-c', child], on_line=lambda line: print(line, flush=True)))\n"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pid = int(await worker.stdout.readline())
    worker.kill()
    await worker.wait()
    await eventually(lambda: not is_running(pid))
