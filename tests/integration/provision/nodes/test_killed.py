"""An update that is killed, at any point: the next one ends in the same good state."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from support.git_repositories import GitRepository
from support.real_comfyui import TESTS

OLD, NEW = "1 1 mine", "2 2 mine"


@pytest.mark.timeout(600)
async def test_an_update_may_be_killed_at_any_point(
    installation: Installation, packs: NodePacks, make_repository: Callable[[str], GitRepository]
) -> None:
    """What ComfyUI would load is the whole old version or the whole new one; then the new one, with the user's file."""
    repository = make_repository("Pack")
    repository.commit({"one.py": "1", "two.py": "1"})
    repository.tag("v1")
    await packs.place(await packs.resolve(NodeEntry(url=repository.url)))
    (installation.base_dir / "custom_nodes/Pack/user.json").write_text("mine")
    repository.commit({"one.py": "2", "two.py": "2"})
    repository.tag("v2")
    command = [sys.executable, str(TESTS / "support/killed_update.py"), installation.model_dump_json(), repository.url]
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [one for one in seen if one["killed"]]
    assert len(killed) >= 8
    assert seen[-1] == {
        "killed": False,
        "left": {"Pack": NEW},
        "after": {"Pack": NEW},
        "names": [".comfyworker.disabled", "Pack"],
    }
    # Between the two renames nothing is there for a moment; never is it half of something.
    assert {json.dumps(one["left"]) for one in killed} <= {json.dumps({"Pack": text}) for text in (OLD, NEW)} | {"{}"}
    assert all(one["after"] == {"Pack": NEW} for one in killed)
    assert all(one["names"] == [".comfyworker.disabled", "Pack"] for one in killed)
