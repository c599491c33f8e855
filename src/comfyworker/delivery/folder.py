"""Artifacts as files in a folder, for who runs a workflow on this machine."""

from __future__ import annotations

import contextlib
import errno
import functools
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from comfyworker.delivery.claiming import claim
from comfyworker.errors import DeliveryFailed, InsufficientStorage
from comfyworker.finishing import in_thread
from comfyworker.jobs import Artifact


class FolderDelivery:
    """Puts each artifact into a folder, under its own name or the next free one; nothing there is overwritten."""

    keeps_outputs = False

    def __init__(self, folder: Path) -> None:
        """Deliver into `folder`, which is made when there is something to put there."""
        self._folder = folder

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Copy the artifacts; each one's `path` is the copy's afterwards.

        Raises:
            InsufficientStorage: the disk is full; the copies made so far are removed.
            DeliveryFailed: the folder cannot be written.
        """
        placed: list[Artifact] = []
        try:
            for artifact in artifacts:
                # Noted by the thread itself: who is cancelled meanwhile does not hear what it returns.
                await in_thread(functools.partial(self._place, artifact, placed))
        except BaseException:
            for artifact in placed:
                if artifact.path is not None:
                    _remove(artifact.path)
            raise
        return tuple(placed)

    def _place(self, artifact: Artifact, placed: list[Artifact]) -> None:
        target: Path | None = None
        draft = self._folder / f".{uuid.uuid4().hex}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            target = claim(self._folder, Path(artifact.name).name)
            if artifact.path is not None:
                shutil.copyfile(artifact.path, draft)
            else:
                draft.write_text(artifact.text or "", encoding="utf-8", errors="replace")
            draft.replace(target)
        except OSError as error:
            _remove(draft)
            if target is not None:
                _remove(target)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise InsufficientStorage(
                    f"the disk is full: {artifact.name} could not be saved",
                    hint="Free space there, or choose another folder.",
                ) from error
            raise DeliveryFailed(
                f"{artifact.name} could not be saved in {self._folder.name}: {error.strerror}",
                hint="Choose a folder that can be written.",
            ) from error
        placed.append(artifact.model_copy(update={"path": target}))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what failed before is what has to be told
        path.unlink()
