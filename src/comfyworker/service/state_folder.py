"""The folder in which the service keeps its database and the files of jobs and assets; one server has it at a time.

No file in it bears a name that a client gave.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import structlog

from comfyworker.errors import InvalidSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOCK = "server.lock"
_JOBS = "jobs"
_ASSETS = "assets"


class StateFolder:
    """The folder, held from `take` to `release`; all of this blocks."""

    def __init__(self, path: Path) -> None:
        """Use the folder `path`, which is made by `take`."""
        self._path = path
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        """The file of the database."""
        return self._path / "jobs.sqlite3"

    @property
    def assets(self) -> Path:
        """The folder of uploaded files."""
        return self._path / _ASSETS

    def job(self, key: str) -> Path:
        """Return the folder of one job; it is made when there is something to put there."""
        return self._path / _JOBS / key

    def relative(self, path: Path) -> str:
        """Return where a file of ours lies within the folder, as it is written down."""
        return str(path.relative_to(self._path))

    def absolute(self, relative: str) -> Path:
        """Return where a file is that was written down so."""
        return self._path / relative

    def holds(self, path: Path, key: str) -> bool:
        """Tell whether a file lies in the folder of one job."""
        return path.is_relative_to(self.job(key))

    def take(self) -> None:
        """Make the folder, and keep other servers out of it.

        Raises:
            InvalidSettings: another server has it, or it cannot be written.
        """
        try:
            for folder in (self._path, self._path / _JOBS, self.assets):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise InvalidSettings(
                "another server uses the same STATE_DIR", hint="Stop it, or give each server a STATE_DIR of its own."
            ) from None  # It is no fault of the disk.
        except OSError as error:
            if self._lock is None:
                raise InvalidSettings(
                    f"the worker cannot write to its STATE_DIR: {error.strerror}",
                    hint="Name a folder in STATE_DIR that the worker's user may write to.",
                ) from error
            # Where a disk takes no locks, SQLite's own still keep a second server out.
            log.warning("service.not_locked", reason=error.strerror)

    def release(self) -> None:
        """Let another server have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stray_jobs(self, kept: Collection[str]) -> list[Path]:
        """Return the folders of no job that a killed server left; `kept` are the keys of all jobs."""
        return [path for path in (self._path / _JOBS).iterdir() if path.name not in kept]

    def stray_files(self, kept: Collection[str]) -> list[Path]:
        """Return the files of no asset that a killed server left; `kept` are those of all, as they are written down."""
        return [path for path in self.assets.iterdir() if self.relative(path) not in kept]


def remove(path: Path) -> None:
    """Take a folder or a file from the disk; what is not there is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file so that it outlives a loss of power; its folder is made.

    Raises:
        OSError: the disk does not take it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a Path cannot set the mode
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    for folder in (path.parent, path.parent.parent):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
