"""Updates a custom node and is killed at one point after the other: `python killed_update.py INSTALLATION URL`.

Every call that changes the disk, or has git change it, is a point: the interpreter's audit hooks tell of each before it
is made. For each point a fresh process is killed there with SIGKILL, then one line of JSON says what was left, and what
the next update made of it.
"""

import asyncio
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from comfyworker.provision.reporting import SilentReporter
from comfyworker.settings import ProvisionSettings
from support.killing import run_and_die

POINTS = frozenset({"os.rename", "os.link", "os.mkdir", "os.symlink", "shutil.rmtree"})
GIT_POINTS = frozenset({"fetch", "checkout"})


async def update(installation: Installation, url: str) -> None:
    """Bring the newest release."""
    packs = NodePacks(installation, ProvisionSettings(), SilentReporter())
    await packs.place(await packs.resolve(NodeEntry(url=url)))


def is_point(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether the disk is changed, or git changes it."""
    return event in POINTS or (event == "subprocess.Popen" and not GIT_POINTS.isdisjoint(arguments[1]))


def look(custom_nodes: Path) -> dict[str, str]:
    """Return the version of each folder that ComfyUI would load, and of the user's file in it."""
    folders = [entry for entry in custom_nodes.iterdir() if not entry.name.endswith(".disabled")]
    return {
        entry.name: " ".join((entry / name).read_text() for name in ("one.py", "two.py", "user.json"))
        for entry in folders
    }


def main() -> None:
    """Kill at each point."""
    installation, url = Installation.model_validate_json(sys.argv[1]), sys.argv[2]
    custom_nodes = installation.base_dir / "custom_nodes"
    before = custom_nodes.with_name("before")
    custom_nodes.rename(before)
    number = 0
    was_killed = True
    while was_killed:
        number += 1
        shutil.rmtree(custom_nodes, ignore_errors=True)
        shutil.copytree(before, custom_nodes, symlinks=True)
        was_killed = run_and_die(functools.partial(update, installation, url), is_point, number)
        left = look(custom_nodes)
        asyncio.run(update(installation, url))
        names = sorted(entry.name for entry in custom_nodes.iterdir())
        print(json.dumps({"killed": was_killed, "left": left, "after": look(custom_nodes), "names": names}), flush=True)


if __name__ == "__main__":
    main()
