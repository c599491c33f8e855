"""`comfyworker comfyui install` as its user calls it, as far as that takes no minutes."""

import subprocess
import sys
from pathlib import Path

from support.real_comfyui import Install


def call_install(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "comfyworker", "comfyui", "install", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_comfyui_that_is_there_is_left_alone(comfyui_install: Install) -> None:
    """It says which version is there and where; stdout stays empty, the exit code is 0."""
    done = call_install("--path", str(comfyui_install.path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "is there already and is left as it is" in done.stderr
    assert str(comfyui_install.path) in done.stderr


def test_a_source_that_cannot_be_is_told(tmp_path: Path) -> None:
    """One error with what to do about it, and exit code 1."""
    done = call_install("--path", str(tmp_path / "ComfyUI"), "--cpu", "--source", str(tmp_path))
    assert done.returncode == 1
    assert "--source holds no ComfyUI: main.py, requirements.txt, comfy is not there" in done.stderr
    assert "Traceback" not in done.stderr
