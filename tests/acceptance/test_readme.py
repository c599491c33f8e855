"""What README and the tutorial tell their reader to enter works, and does what they say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.markdown import Step, blocks, steps
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY

PAGES = ("README.md", "docs/tutorial/first-workflow.md")
NOT_RUN = re.compile(r"(make|\.|export)\s")
"""`make` runs these very tests, or installs a ComfyUI; the others set up the reader's shell, as `environ` does."""


def page_steps(page: Path) -> Iterator[Step]:
    """Yield what a page has to be run, in its order; a Python program as the command that runs it."""
    for block in blocks(page):
        if block.language == "python":
            yield Step(f"python - <<'END'\n{block.text}END")
        yield from (step for step in steps(block) if not NOT_RUN.match(step.command))


def as_pattern(shown: str) -> str:
    """Return the pattern of what a page shows: figures may differ, and `…` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("…")]
    return re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", r".*".join(parts)).replace(r"\ ", " ")


def enter(step: Step, folder: Path, environ: Mapping[str, str]) -> str:
    """Run one step in `folder` and return what is wrong with what came of it; nothing if all is well."""
    command = ["bash", "-o", "pipefail", "-c", step.command]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != step.exit_code:
        return f"{step.command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    # What a failing command says to people is on stderr, below its progress.
    given = done.stdout or done.stderr
    shown = as_pattern(step.shown) if done.stdout else rf".*{as_pattern(step.shown)}"
    if step.shown and not re.fullmatch(shown, " ".join(given.split()), re.DOTALL):
        return f"{step.command}\nshows\n{given[:2000]}\nthe page has\n{step.shown}"
    return ""


@pytest.fixture
def environ(comfyui: RealComfyUI) -> dict[str, str]:
    """Return the environment of a reader who has set things up, with the ComfyUI of the tests."""
    own = {"COMFY_API_URL": comfyui.url, "COMFYUI_BASE_DIR": str(comfyui.base_dir), "COLUMNS": "100"}
    return {**os.environ, **own, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_followed(name: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Each command ends as the page says and prints what the page shows, but for figures."""
    for folder in ("examples", "docs"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    todo = list(page_steps(REPOSITORY / name))
    assert sum("comfyworker" in step.command for step in todo) >= 3
    assert [fault for step in todo if (fault := enter(step, tmp_path, environ))] == []


def test_the_tutorial_ends_with_its_picture(environ: dict[str, str], tmp_path: Path) -> None:
    """The tutorial's programs make a request, and a picture from its answer."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    todo = list(page_steps(REPOSITORY / PAGES[1]))
    first = next(index for index, step in enumerate(todo) if step.command.startswith("python"))
    assert [fault for step in todo[first:] if (fault := enter(step, tmp_path, environ))] == []
    assert [path.read_bytes()[:4] for path in tmp_path.glob("poster_*.png")] == [b"\x89PNG"]
