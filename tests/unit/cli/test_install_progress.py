"""An install as its user sees it."""

import io
import re

import pytest
from rich.console import Console

from comfyworker.cli.install_progress import InstallProgress

SECONDS = re.compile(r"\d+\.\d s")


def test_without_a_terminal_there_are_plain_lines() -> None:
    """Steps and notes are written, each once; the thousand lines of pip are not."""
    out = io.StringIO()
    with InstallProgress(Console(file=out, width=40)) as progress:
        progress.step(1, 2, "Look")
        progress.note("A note that is [longer] than the forty columns of this console.")
        progress.step(2, 2, "Install")
        progress.line("Collecting torch")
    assert SECONDS.sub("N s", out.getvalue()).splitlines() == [
        "[1/2] Look",
        "      A note that is [longer] than the forty columns of this console.",
        "      done after N s",
        "[2/2] Install",
        "      done after N s",
    ]


def test_a_step_that_fails_is_told_as_such() -> None:
    """The step that ran when the error came is not called done."""
    out = io.StringIO()

    def fail() -> None:
        with InstallProgress(Console(file=out)) as progress:
            progress.step(1, 1, "Install")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 # only where it comes from matters
        fail()
    assert SECONDS.sub("N s", out.getvalue()).splitlines() == ["[1/1] Install", "      failed after N s"]


def test_on_a_terminal_steps_that_are_over_stay() -> None:
    """A terminal keeps one line for each step, with a mark."""
    out = io.StringIO()
    with InstallProgress(Console(file=out, force_terminal=True, color_system=None, width=80)) as progress:
        progress.step(1, 1, "Install")
        progress.line("Collecting torch")
    assert SECONDS.sub("N s", out.getvalue()).splitlines()[-1].endswith("✓ [1/1] Install  N s")
