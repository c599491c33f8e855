"""Which of several ComfyUIs on one machine writes where and listens where.

ComfyUI empties its temp folder when it starts, and names outputs by the highest number it finds in the output folder.
Two of them in the same folders would take each other's files: so each one that we start claims a slot, and only the
first slot uses the plain folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from comfyworker.comfyui.folders import Folders
from comfyworker.errors import ComfyUINotFound

_MOST_SLOTS = 64


def output_args(folders: Folders, slot: int) -> tuple[str, ...]:
    """Return the flags that keep slot `slot` out of the other slots' folders; none for the first.

    Args:
        folders: What the first slot uses.
        slot: From 0.
    """
    if slot == 0:
        return ()
    return (
        "--output-directory",
        str(folders.output / f"comfyworker-{slot}"),
        "--temp-directory",
        str(folders.temp.parent / "temp-folders" / f"comfyworker-{slot}"),
    )


def folders_from_args(base_dir: Path, args: tuple[str, ...]) -> Folders:
    """Return the folders that a ComfyUI with these flags uses (its `cli_args.py` and `folder_paths.py`).

    Relative folders are relative to its working directory, which is `base_dir` for the ones that we start.
    """
    given = _flag_values(args)
    base = base_dir / given.get("--base-directory", ".")
    temp_root = base_dir / given["--temp-directory"] if "--temp-directory" in given else base
    return Folders(
        input=(base_dir / given["--input-directory"] if "--input-directory" in given else base / "input").absolute(),
        output=(
            base_dir / given["--output-directory"] if "--output-directory" in given else base / "output"
        ).absolute(),
        temp=(temp_root / "temp").absolute(),
        models=(base / "models").absolute(),
    )


@contextlib.contextmanager
def claim_slot(base_dir: Path) -> Iterator[int]:
    """Claim the lowest slot of `base_dir` that no live worker has, for as long as the context lasts.

    Where the folder takes no locks (read-only, some network disks) only workers of this machine are told apart.
    """
    with contextlib.suppress(OSError):
        base_dir.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(os.fsencode(base_dir.resolve())).hexdigest()[:16]
    with contextlib.ExitStack() as claims:
        for slot in range(_MOST_SLOTS):
            claim = _lock(base_dir / f".comfyworker-slot-{slot}.lock", _machine_lock(f"slot-{key}-{slot}"))
            if claim is not _TAKEN:
                claims.callback(claim)
                yield slot
                return
        yield 0


@contextlib.contextmanager
def reserve_port(wanted: int) -> Iterator[int]:
    """Reserve `wanted`, or the next port that is free, against other workers of this machine.

    ComfyUI binds its port only seconds after its start; without a reservation two workers would choose the same one,
    and one of them would take the other's ComfyUI for its own.

    Raises:
        ComfyUINotFound: no port near `wanted` is free.
    """
    with contextlib.ExitStack() as claims:
        for port in range(wanted, min(wanted + _MOST_SLOTS, 65536)):
            claim = _lock(_machine_lock(f"port-{port}"))
            if claim is _TAKEN:
                continue
            claims.callback(claim)
            if _can_bind(port):
                yield port
                return
            claims.close()
    raise ComfyUINotFound(
        f"no port from {wanted} to {wanted + _MOST_SLOTS - 1} is free for ComfyUI",
        hint="Set COMFYUI_PORT to a free one.",
    )


def _taken() -> None:
    """Stand for a lock that somebody else has."""


_TAKEN = _taken


def _machine_lock(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"comfyworker-{name}.lock"


def _lock(*paths: Path) -> Callable[[], None]:
    """Lock the first of `paths` that takes locks; return what releases it, or `_TAKEN`.

    The lock ends with the process, also when that is killed. Where none takes locks, going on without is all that is
    left.
    """
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return _TAKEN
        except OSError:
            os.close(descriptor)
            continue
        return functools.partial(os.close, descriptor)
    return lambda: None


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _flag_values(args: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if equals:
            found[flag] = value
        elif index + 1 < len(args):
            found[flag] = args[index + 1]
    return found
