"""What README and the tutorial tell their reader to enter works, and does what they say."""

import os
import sys
from pathlib import Path

import pytest

from support.following import enter, page_steps
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY

PAGES = ("README.md", "docs/tutorial/first-workflow.md")
SERVER = ("comfyworker serve", "curl")
"""What http/test_docs_http.py follows."""


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
    todo = [step for step in page_steps(REPOSITORY / name) if not step.command.startswith(SERVER)]
    assert sum("comfyworker" in step.command for step in todo) >= 3
    assert [fault for step in todo if (fault := enter(step, tmp_path, environ))] == []


def test_the_tutorial_ends_with_its_picture(environ: dict[str, str], tmp_path: Path) -> None:
    """The tutorial's programs make a request, and a picture from its answer."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    todo = list(page_steps(REPOSITORY / PAGES[1]))
    first = next(index for index, step in enumerate(todo) if step.command.startswith("python"))
    assert [fault for step in todo[first:] if (fault := enter(step, tmp_path, environ))] == []
    assert [path.read_bytes()[:4] for path in tmp_path.glob("poster_*.png")] == [b"\x89PNG"]
