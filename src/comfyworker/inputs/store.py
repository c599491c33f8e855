"""Input files where ComfyUI finds them: named by their content, there while a job needs them, then gone.

Two jobs that both send `input.png` never meet, and equal files keep ComfyUI's cache warm. Several worker processes may
share one input folder, even from several machines (a network volume), so a file is only removed by the process that
wrote it, and only if nobody has touched it since.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

import structlog

from comfyworker.errors import InsufficientStorage, InternalError, WorkerError
from comfyworker.finishing import in_thread
from comfyworker.inputs.prepare import DecodedFile

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Upload = Callable[[str, str, bytes | Path], Awaitable[object]]
"""`upload(name, subfolder, data)`: brings a file into the input folder of a ComfyUI on another machine."""

SUBFOLDER = "comfyworker"
"""Our folder in ComfyUI's input folder."""
_LOCK_NAME = ".lock"
_STALE_AFTER_S = 86_400.0  # no job takes that long, and each one that uses a file touches it
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Stamp(NamedTuple):
    """What a file looked like when we wrote it; any difference means that somebody else has an interest in it."""

    inode: int
    mtime_ns: int


class PlacedFiles:
    """The files of one job; leave the context, or call `release`, when the job needs them no more."""

    def __init__(self, names: Mapping[str, str], release: Callable[[], Awaitable[None]]) -> None:
        """Keep the names and the way back; made by `InputStore.place`."""
        self.names = MappingProxyType(dict(names))
        """What the workflow calls each file → what ComfyUI calls it (`comfyworker/<hash>.png`)."""
        self._release: Callable[[], Awaitable[None]] | None = release

    async def release(self) -> None:
        """Give the files up; the last job that used one takes it from the disk. Twice is as good as once."""
        release, self._release = self._release, None
        if release is not None:
            await release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


class InputStore:
    """Brings input files to one ComfyUI: onto the disk that we share with it, else over its API."""

    def __init__(self, folder: Path | None, upload: Upload | None = None, *, keep: bool = False) -> None:
        """Remember where files go; touches nothing yet.

        Args:
            folder: ComfyUI's input folder, if it is on this disk.
            upload: The way to a ComfyUI on another machine, used where there is no folder. What it brought there
                stays: ComfyUI's API removes nothing.
            keep: Leave the files on the disk for good.
        """
        if folder is None and upload is None:
            message = "an InputStore needs a folder or an upload"
            raise ValueError(message)
        self._folder = None if folder is None else folder / SUBFOLDER
        self._upload = upload
        self._keep = keep
        self._jobs: Counter[str] = Counter()
        """How many jobs of this process use each stored file."""
        self._written: dict[str, _Stamp] = {}
        """The files that this process wrote and, as far as it knows, nobody else has touched; under `_moment`."""
        self._uploaded: set[str] = set()
        self._is_swept = keep
        # Held in threads, for moments: no `flock` keeps two threads of one process apart on every kind of disk.
        self._moment = threading.Lock()

    async def place(self, files: Sequence[DecodedFile]) -> PlacedFiles:
        """Bring `files` to ComfyUI and return their names there, to be used as an async context manager.

        If this fails or is cancelled, nothing stays behind.

        Raises:
            InsufficientStorage: the disk is full.
            InternalError: the folder cannot be written to.
            WorkerError: whatever `upload` raises.
        """
        stored = {file.stored_name: file.data for file in files}
        self._jobs.update(stored.keys())
        try:
            for name, data in stored.items():
                await self._bring(name, data)
        except BaseException:
            await self._release(tuple(stored))
            raise
        names = {file.name: f"{SUBFOLDER}/{file.stored_name}" for file in files}
        kept = tuple(stored)  # Not `stored`: the bytes are on the disk now and need not stay in memory too.
        return PlacedFiles(names, lambda: self._release(kept))

    async def _bring(self, name: str, data: bytes | Path) -> None:
        if self._folder is not None:
            await in_thread(lambda: self._put(name, data))
        elif self._upload is not None and name not in self._uploaded:
            await self._upload(name, SUBFOLDER, data)
            self._uploaded.add(name)

    async def _release(self, names: Sequence[str]) -> None:
        self._jobs.subtract(names)
        unused = [name for name in names if self._jobs[name] == 0]
        for name in unused:
            del self._jobs[name]
            self._uploaded.discard(name)
        if self._folder is not None and not self._keep and unused:
            await in_thread(lambda: self._remove(unused))

    def _put(self, name: str, data: bytes | Path) -> None:
        """Have the file on disk; runs in a thread."""
        folder = self._own_folder()
        part = folder / f".{name}.{uuid.uuid4().hex}.part"
        try:
            size_bytes = len(data) if isinstance(data, bytes) else data.stat().st_size
            folder.mkdir(parents=True, exist_ok=True)
            with self._exclusively():
                self._sweep_once(folder)
                if self._is_there(name, size_bytes):
                    return
            if isinstance(data, bytes):
                part.write_bytes(data)
            else:
                # A copy, no link: a node that writes into its input would change the file for everybody.
                shutil.copyfile(data, part)
            with self._exclusively():
                if not self._is_there(name, size_bytes):
                    part.replace(folder / name)
                    self._written[name] = _stamp(folder / name)
        except OSError as error:
            raise _unwritable(error) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _sweep_once(self, folder: Path) -> None:
        """Remove what killed workers left behind long ago; `folder` is ours alone."""
        if self._is_swept:
            return
        self._is_swept = True
        oldest = time.time() - _STALE_AFTER_S
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if path.name != _LOCK_NAME and path.stat().st_mtime < oldest:
                    path.unlink()

    def _is_there(self, name: str, size_bytes: int) -> bool:
        """Tell whether the whole file is there already; if another process put it there, show that it is of use."""
        path = self._own_folder() / name
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if found.st_size != size_bytes:
            return False  # What a worker left that was killed on a disk without atomic renames.
        if self._written.get(name) != _stamp(path):
            self._written.pop(name, None)
            # At least a second later than before, since some network disks count whole seconds.
            moment = max(time.time_ns(), found.st_mtime_ns + 1_000_000_000)
            os.utime(path, ns=(moment, moment))
        return True

    def _remove(self, names: Sequence[str]) -> None:
        """Take files from the disk which no job uses any more; runs in a thread."""
        for name in names:
            path = self._own_folder() / name
            try:
                with self._exclusively():
                    # Another job may have come for it while this thread waited for the lock.
                    if self._jobs[name] == 0 and self._written.pop(name, None) == _stamp(path):
                        path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("inputs.not_removed", file=name, reason=error.strerror)

    def _own_folder(self) -> Path:
        assert self._folder is not None  # noqa: S101  # only called where there is one
        return self._folder

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Keep other threads, and other processes where the disk has locks, out of a look-and-change."""
        with self._moment, (self._own_folder() / _LOCK_NAME).open("ab") as lock:
            # Not every network disk has locks. Without one, the stamps still tell nearly all of what happened.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield  # Closing the file gives the lock up.


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return _Stamp(found.st_ino, found.st_mtime_ns)


def _unwritable(error: OSError) -> WorkerError:
    if error.errno in _DISK_FULL:
        return InsufficientStorage(
            "the disk with ComfyUI's input folder is full: an input file could not be written",
            hint="Free space on it, or give the worker a larger disk.",
        )
    return InternalError(
        f"an input file could not be written to ComfyUI's input folder: {error.strerror}",
        hint="The user that the worker runs as must be able to write there.",
    )
