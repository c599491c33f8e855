"""When a ComfyUI is to be started anew, since its custom nodes are others now: told by a file beside them.

Whoever changes custom nodes writes it, and each worker that runs this ComfyUI sees it, in this container or another
one with the same volume; nobody needs to know whom to tell.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import structlog

from comfyworker.comfyui.instance import ComfyUIInstance

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FOLDER = ".comfyworker"
_NAME = "nodes-changed"
_LOOK_S = 1.0
_IDLE_LOOK_S = 0.05


def mark_nodes_changed(base_dir: Path) -> None:
    """Tell the workers that run the ComfyUI of `base_dir` that its custom nodes are others now.

    Blocks.

    Raises:
        OSError: it cannot be written.
    """
    path = base_dir / _FOLDER / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{_NAME}.{secrets.token_hex(4)}")
    try:
        draft.write_text(secrets.token_hex(8), encoding="ascii")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_mark(base_dir: Path) -> str:
    """Return what stands for the custom nodes as they are now. Blocks."""
    try:
        return (base_dir / _FOLDER / _NAME).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


async def wait_nodes_changed(base_dir: Path, since: str) -> None:
    """Wait until the custom nodes are others than `since`, as `read_mark` told it."""
    while await asyncio.to_thread(read_mark, base_dir) == since:  # noqa: ASYNC110  # a network disk tells nobody
        await asyncio.sleep(_LOOK_S)


async def wait_idle(instance: ComfyUIInstance) -> None:
    """Have a ComfyUI take no more jobs, and wait until those that are on it have ended; then it still takes none.

    Jobs that come meanwhile wait for the next one.
    """
    log.info("comfyui.retiring", instance=instance.name, jobs=instance.in_flight)
    instance.set_gone(None)
    while instance.in_flight > 0:
        await asyncio.sleep(_IDLE_LOOK_S)  # who holds a place there is counted by the pool, which tells nobody else
        if instance.is_ready:  # a doubt about it was settled meanwhile
            instance.set_gone(None)
