"""When a ComfyUI is to be started anew, since its custom nodes are others now: told by a file beside them.

Whoever changes custom nodes writes it, and each worker that runs this ComfyUI sees it, in this container or another
one with the same volume; nobody needs to know whom to tell.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Self

import structlog

from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.process import ComfyUIProcess
from comfyworker.replacing import replace_file

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FOLDER = ".comfyworker"
_NAME = "nodes-changed"
_LOOK_S = 1.0
_IDLE_LOOK_S = 0.05


class Renewal:
    """Watches the custom nodes that one process of ComfyUI has loaded."""

    def __init__(self, base_dir: Path, mark: str) -> None:
        """Know what stood for the custom nodes before the process began."""
        self.is_done = False
        """Whether the process was ended for other custom nodes."""
        self._base_dir = base_dir
        self._mark = mark

    @classmethod
    async def begin(cls, base_dir: Path) -> Self:
        """Take note of the custom nodes as they are, before ComfyUI is started with them."""
        return cls(base_dir, await asyncio.to_thread(read_mark, base_dir))

    async def watch(self, instance: ComfyUIInstance, process: ComfyUIProcess) -> None:
        """Wait until the custom nodes are others, then until no job is on ComfyUI, then end its process.

        From the change on it takes no more jobs: those that come wait for the next process.
        """
        # A network disk tells nobody that a file has changed.
        while await asyncio.to_thread(read_mark, self._base_dir) == self._mark:  # noqa: ASYNC110  # as said
            await asyncio.sleep(_LOOK_S)
        log.info("comfyui.nodes_changed", instance=instance.name, jobs=instance.in_flight)
        instance.retire()
        while instance.in_flight > 0:  # noqa: ASYNC110  # the pool counts who holds a place there, and tells nobody else
            await asyncio.sleep(_IDLE_LOOK_S)
        self.is_done = True
        await process.stop()


def mark_nodes_changed(base_dir: Path) -> None:
    """Tell the workers that run the ComfyUI of `base_dir` that its custom nodes are others now.

    Blocks.

    Raises:
        OSError: it cannot be written.
    """
    path = base_dir / _FOLDER / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, secrets.token_hex(8).encode())


def read_mark(base_dir: Path) -> str:
    """Return what stands for the custom nodes as they are now. Blocks."""
    try:
        return (base_dir / _FOLDER / _NAME).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
