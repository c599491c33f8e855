"""Folders for files on their way: each job has one of its own, and none outlives its job for long."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from comfyworker.finishing import finish

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NAME = re.compile(r"comfyworker-[0-9a-f]{32}")
_REMOVE_WITHIN_S = 10.0
_LEFT_AFTER_S = 86400.0
"""No job writes nothing for a day: a folder as old as this is of a worker that was killed."""


class Spool:
    """Where jobs' files lie on their way."""

    def __init__(self, root: Path | None) -> None:
        """Make folders in `root`; None is the system's folder for temporary files."""
        self._root = root or Path(tempfile.gettempdir())

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """Name a folder for one job; it is made by who puts something there, and removed in any case."""
        folder = self._root / f"comfyworker-{uuid.uuid4().hex}"
        try:
            yield folder
        finally:
            if folder.exists():
                removal = asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                await finish(removal, within_s=_REMOVE_WITHIN_S, name="spool folder")

    def sweep(self) -> None:
        """Remove what a worker that was killed has left. Blocks; what cannot be removed is no fault."""
        with contextlib.suppress(OSError):
            for folder in self._root.iterdir():
                if _NAME.fullmatch(folder.name) is None:
                    continue
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > _LEFT_AFTER_S:
                        shutil.rmtree(folder, ignore_errors=True)
                        log.info("spool.removed", folder=folder.name)
