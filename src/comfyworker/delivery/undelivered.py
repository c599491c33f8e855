"""Files that could not be delivered, kept for a while: what a GPU has worked for is not thrown away with an error."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import structlog

from comfyworker.delivery.claiming import claim
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
        try:
            folders = list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:  # a home folder of somebody else's, for example
            log.warning("undelivered.not_swept", error=error.strerror)
            return
        for folder in folders:
            with contextlib.suppress(OSError):
                if now - folder.stat().st_mtime > self._keep_s:
                    shutil.rmtree(folder, ignore_errors=True)
                    log.info("undelivered.removed", job_id=folder.name)


def _keep(path: Path, folder: Path, name: str) -> str:
    draft = folder / f".{uuid.uuid4().hex}.part"
    try:
        try:
            os.link(path, draft)
        except OSError:  # another disk, or one that knows no links
            shutil.copyfile(path, draft)
        # Claimed, since another job of the same id may be failing as well.
        target = claim(folder, name)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    os.utime(folder)
    return target.name
