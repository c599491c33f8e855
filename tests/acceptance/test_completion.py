"""Shells complete calls of the command, with the scripts that `--install-completion` gives them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ASK_BASH = """
complete_for() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
    _comfyworker_completion comfyworker
    echo "${COMPREPLY[@]}"
}
source ~/.bashrc
complete_for comfyworker work
complete_for comfyworker models pu
complete_for comfyworker config plan --only = no
complete_for comfyworker settings JOB_TIMEOUT
complete_for comfyworker run ''
"""
"""What bash does at the press of a key, without a terminal: sets the words, calls the function, takes what it left."""

KEYS_S = 30.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home of nobody's, with the command on its path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "dumb")
    return tmp_path


def ask(shell: str, script: str, home: Path) -> str:
    """Run a script in a shell; return what it printed. Nothing may stand on stderr."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run([shell, "-c", script], check=True, capture_output=True, text=True, cwd=home, timeout=60)
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_commands_options_and_values(home: Path) -> None:
    """Where nothing is known, bash has files."""
    installed = ask("bash", "comfyworker --install-completion; true", home)
    assert str(home / ".bash_completions/comfyworker.sh") in installed
    assert ask("bash", ASK_BASH, home).splitlines() == ["workflow", "pull", "nodes", "JOB_TIMEOUT_S", ""]


def test_fish_completes_with_what_a_thing_means(home: Path) -> None:
    """Commands come with their summaries; a workflow is a file."""
    ask("fish", "comfyworker --install-completion; true", home)
    (home / "paint.json").touch()
    asked = ("comfyworker work", "comfyworker config plan --on", "comfyworker run pai")
    found = [ask("fish", f"complete -C '{line}'", home).strip() for line in asked]
    assert found == [
        "workflow\tLook at workflow files and change their format.",
        "--only\tOne half of it alone",
        "paint.json",
    ]


def test_zsh_completes_at_its_prompt(home: Path) -> None:
    """A person types a part of a word and the Tab key."""
    ask("zsh", "comfyworker --install-completion; true", home)
    startup = home / ".zshrc"
    startup.write_text(startup.read_text().replace("; compinit\n", "; compinit -u\n") + "PS1='READY> '\n")
    assert typed("zsh", ["comfyworker work", "comfyworker config plan --on", "comfyworker handle --dialect ur"]) == [
        "comfyworker workflow ",
        "comfyworker config plan --only ",
        "comfyworker handle --dialect urls ",
    ]


def typed(shell: str, lines: list[str]) -> list[str]:
    """Type each line and Tab at a shell's prompt; return what stands there when it has been completed."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(shell, [shell, "-i"])
    try:
        _read_until(terminal, "READY> ")
        found = []
        for line in lines:
            # The first Tab of a session may do no more than load the script: typer's leaves it at that.
            os.write(terminal, f"{line}\t\t".encode())
            shown = _read_until(terminal, " ", after=line)
            found.append(line + shown)
            os.write(terminal, b"\x15")
        return found
    finally:
        os.write(terminal, b"\x15exit\r")
        os.waitpid(child, 0)
        os.close(terminal)


def _read_until(terminal: int, end: str, *, after: str = "") -> str:
    """Return what a terminal shows after `after` up to `end`."""
    shown, limit = "", time.monotonic() + KEYS_S
    while True:
        _, begun, rest = shown.rpartition(after) if after else ("", "", shown)
        if (begun or not after) and end in rest:
            return rest[: rest.index(end) + len(end)]
        assert time.monotonic() < limit, f"not there yet: {shown!r}"
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace").replace("\a", "")  # the bell is no text
