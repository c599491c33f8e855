"""Files that could not be delivered, kept for a while: what a GPU has worked for is not thrown away with an error."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from comfyworker.jobs import Artifact

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Undelivered:
    """A folder with one folder for each job whose files did not arrive.

    All methods block; nothing they meet on the disk is raised, since the job has failed already.
    """

    def __init__(self, folder: Path, *, keep_s: float) -> None:
        """Keep files in `folder`, each job's for `keep_s` seconds; 0 keeps none."""
        self._folder = folder
        self._keep_s = keep_s

    def keep(self, job_id: str, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
        """Keep the artifacts' files; return the names of those that are kept.

        A file on the same disk is linked, so that a full disk keeps it too; its original may be removed then.

        Args:
            job_id: Names the folder; a key, never a path.
            artifacts: What did not arrive; texts are in the answer and need no keeping.
        """
        if self._keep_s == 0:
            return ()
        kept = []
        folder = self._folder / job_id
        for artifact in artifacts:
            if artifact.path is None:
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                kept.append(_keep(artifact.path, folder, Path(artifact.name).name))
            except OSError as error:
                log.warning("undelivered.not_kept", name=artifact.name, error=error.strerror)
        if kept:
            log.warning("undelivered.kept", files=len(kept), keep_s=self._keep_s)
        return tuple(kept)

    def sweep(self) -> None:
        """Remove what has been kept long enough."""
        now = time.time()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for folder in list(self._folder.iterdir()):
                with contextlib.suppress(OSError):
                    if now - folder.stat().st_mtime > self._keep_s:
                        shutil.rmtree(folder, ignore_errors=True)
                        log.info("undelivered.removed", job_id=folder.name)


def _keep(path: Path, folder: Path, name: str) -> str:
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    while True:
        kept = name if number == 1 else f"{stem}-{number}{suffix}"
        try:
            os.link(path, folder / kept)
        except FileExistsError:
            number += 1
            continue
        except OSError:  # another disk, or one that knows no links
            draft = folder / f".{kept}.part"
            try:
                shutil.copyfile(path, draft)
                draft.replace(folder / kept)
            finally:
                draft.unlink(missing_ok=True)
        os.utime(folder)
        return kept
