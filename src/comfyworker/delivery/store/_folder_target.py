"""A folder of this machine, in the place of a bucket."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.parts import PartBuffers, unreadable
from comfyworker.errors import InsufficientStorage
from comfyworker.finishing import in_thread

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderTarget:
    """A folder: keys are paths below it."""

    def __init__(self, folder: Path) -> None:
        """Put files below `folder`, which is made when there is something to put there."""
        self._folder = folder

    async def put(self, key: str, path: Path, content_type: str, buffers: PartBuffers) -> None:  # noqa: ARG002  # Target's
        """Copy a file there, so that no reader ever sees half of it.

        Raises:
            StoreFault: it cannot be read or written.
            InsufficientStorage: the disk is full.
        """
        await in_thread(functools.partial(self._copy, self._folder / key, path))

    async def url(self, key: str, *, expires_s: int) -> str:  # noqa: ARG002  # Target's
        """Return the file's URL, which works on this machine for as long as the file is there."""
        return (self._folder / key).as_uri()

    async def set_acl(self, key: str, acl: str) -> None:
        """Do nothing: a folder has no ACLs of this kind."""

    async def withdraw(self, keys: Sequence[str]) -> None:
        """Remove files, and the folders that they leave empty."""
        await in_thread(functools.partial(self._remove, tuple(keys)))

    def _copy(self, target: Path, path: Path) -> None:
        try:
            source = path.open("rb")
        except OSError as error:
            raise unreadable(error) from error
        draft = target.parent / f".{uuid.uuid4().hex}.part"
        with source, _translated(target.name):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as file:
                    shutil.copyfileobj(source, file, 1024 * 1024)
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)

    def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._folder / key
            with contextlib.suppress(OSError):  # not there, or a folder that others use
                path.unlink(missing_ok=True)
                for parent in path.parents:
                    if parent == self._folder:
                        break
                    os.rmdir(parent)  # noqa: PTH106  # only what is empty


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(
                f"the disk is full: {name} could not be saved in the folder for outputs",
                hint="Free space there, or set BUCKET_ENDPOINT_URL to another place.",
            ) from error
        raise StoreFault(
            f"the folder cannot be written: {error.strerror}",
            hint="Look at BUCKET_ENDPOINT_URL and at the folder's permissions.",
        ) from error
