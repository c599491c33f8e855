"""What interrupted downloads have left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.provision.download._parts import (
    SUFFIX,
    all_unfinished,
    is_in_use,
    journal_of,
    key_of,
    read_journal,
    unfinished,
)
from comfyworker.provision.download._spans import Spans
from comfyworker.provision.download.addresses import plain_url
from comfyworker.provision.download.records import Download


class Leftover(BaseModel):
    """An unfinished file that nobody is working at."""

    model_config = ConfigDict(frozen=True)

    path: Path
    size_bytes: int
    """What it takes of the disk."""
    age_s: float

    def remove(self) -> None:
        """Remove it with its journal; raises OSError."""
        self.path.unlink(missing_ok=True)
        journal_of(self.path).unlink(missing_ok=True)


def find_leftovers(folder: Path) -> tuple[Leftover, ...]:
    """Return the unfinished files in a folder, not in those below it, that no download is writing to."""
    return tuple(sorted(_found(folder), key=lambda leftover: leftover.path.name))


def kept_bytes(download: Download, filename: str) -> int:
    """Return how much an interrupted download has left of a file; the next one need not fetch it if it is the same."""
    kept = [read_journal(path) for path in unfinished(download.folder, filename, key_of(plain_url(download.url)))]
    return max((Spans(journal.spans).total for journal in kept if journal is not None), default=0)


def is_unfinished(path: Path) -> bool:
    """Tell whether a file in a models folder is one of a download that is not done, or its journal."""
    name = path.name
    return name.startswith(".") and name.endswith((SUFFIX, f"{SUFFIX}.json", f"{SUFFIX}.json.new"))


def _found(folder: Path) -> Iterator[Leftover]:
    for path in all_unfinished(folder):
        if is_in_use(path):
            continue
        with contextlib.suppress(OSError):
            found = path.stat()
            yield Leftover(path=path, size_bytes=found.st_blocks * 512, age_s=max(time.time() - found.st_mtime, 0.0))
