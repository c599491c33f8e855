"""What the pages on platforms and provisioning tell their reader to enter works, as far as it needs no platform."""

import os
import sys
from pathlib import Path

import pytest

from support.command import environment
from support.following import enter
from support.markdown import blocks, steps
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY

HOWTO = REPOSITORY / "docs/howto"
RUNPOD, PROVISION = HOWTO / "run-on-runpod.md", HOWTO / "provision-models-and-nodes.md"


@pytest.mark.parametrize("page", [RUNPOD, PROVISION], ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_comes(page: Path, comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Each command with its output ends as the page says and prints what the page shows, but for figures.

    Blocks for a shell alone are a container's or need a platform; the hosts' own tests run them.
    """
    for folder in ("examples", "configs"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    own = {"STATE_DIR": str(tmp_path / "state"), "COLUMNS": "200"}
    environ = {**environment(comfyui, **own), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = [block for block in blocks(page) if block.language == "console"]
    todo = [step for block in shown for step in steps(block)]
    assert todo
    assert [fault for step in todo if (fault := enter(step, tmp_path, environ))] == []
