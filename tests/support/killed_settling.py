"""Places a ComfyUI and is killed at one point after the other: `python killed_settling.py IMAGE ROOT`.

Every call that gives something its name, or starts a program, is a point, told by the interpreter's audit hooks before
it is made. At each third one a fresh process is killed with SIGKILL; one line of JSON says what it had left, and what
the next start made of that.
"""

import asyncio
import functools
import json
import sys
from pathlib import Path

from comfyworker.comfyui.home import is_home, trees_folder
from comfyworker.provision.home import settle_comfyui
from comfyworker.settings import ProvisionSettings
from support.homes import found, settings_for
from support.killing import run_and_die

POINTS = frozenset({"os.rename", "os.link", "subprocess.Popen"})


async def settle(home: Path, image: Path) -> None:
    """Place the image's ComfyUI."""
    await settle_comfyui(settings_for(home, image), ProvisionSettings(), cwd=home.parent)


def is_point(event: str, _: tuple[object, ...]) -> bool:
    """Tell whether something is given its name, or a program is started."""
    return event in POINTS


def look(home: Path, image: Path) -> dict[str, object]:
    """Return what a worker would find."""
    installation = found(home, image)
    return {
        "version": installation.version,
        "python": installation.python.exists(),
        "workflow": (home / "user/default/workflows/own.json").read_text(),
        "trees": sorted(entry.name for entry in trees_folder(home).iterdir()),
        "environments": len(list((home / ".comfyworker/environments").iterdir())),
        "custom_nodes": sorted(entry.name for entry in (home / "custom_nodes").iterdir()),
    }


def main() -> None:
    """Kill it at each third point, and tell of each."""
    image, root = Path(sys.argv[1]), Path(sys.argv[2])
    number = 1
    while True:
        home = root / str(number) / "ComfyUI"
        home.parent.mkdir()
        if not run_and_die(functools.partial(settle, home, image), is_point, number):
            return
        was_home = is_home(home)
        asyncio.run(settle(home, image))
        print(json.dumps({"number": number, "was_home": was_home, **look(home, image)}), flush=True)
        number += 3


main()
