"""Messages on their way, as files: what is here has neither been delivered nor been given up.

Several workers may share the folder: an attempt is made by who holds the lock of the message's file, and a file's time
of change says when the next one is due. All of this blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

import structlog

from comfyworker.webhooks.message import Envelope, Message, Unreadable, pack, unpack, unpack_envelope

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SUFFIX = ".json"
_DRAFT_SUFFIX = ".part"
_ASIDE_SUFFIX = ".unreadable"
_DRAFT_LIFE_S = 3600.0
_LONGEST_LINE_BYTES = 1024 * 1024


class Taken(Exception):
    """Another worker is sending the message right now."""


class PendingMessage(NamedTuple):
    """A message on its way."""

    path: Path
    envelope: Envelope
    due_at: float
    """When it is sent next, in seconds of Unix time."""


class Outbox:
    """The messages in one folder, which is made when there is one."""

    def __init__(self, folder: Path) -> None:
        """Keep messages in `folder`."""
        self._folder = folder

    def store(self, message: Message) -> Path:
        """Write a message down; when this returns, it outlives the process and a loss of power.

        Raises:
            OSError: the disk does not take it; nothing is left there.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Jobs may have the same id: each of their messages has a file of its own.
        path = self._folder / f"{message.envelope.id}-{secrets.token_hex(4)}{_SUFFIX}"
        draft = path.with_suffix(_DRAFT_SUFFIX)
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # a Path cannot set the mode
                file.write(pack(message))
                file.flush()
                os.utime(descriptor, (time.time(), message.envelope.created_at))
                os.fsync(descriptor)
            draft.rename(path)
            _sync_folder(self._folder)
        except BaseException:
            draft.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return path

    def pending(self) -> list[PendingMessage]:
        """Return the messages on their way, oldest first; what is none, or cannot be read, is left out."""
        found = [self._look(path) for path in self._folder.glob(f"*{_SUFFIX}")]
        return sorted((item for item in found if item is not None), key=lambda item: item.envelope.created_at)

    def clean(self) -> None:
        """Set files aside that are no messages, and remove what an interrupted writer left."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                try:
                    _read_envelope(path)
                except Unreadable:
                    set_aside(path)
        for draft in self._folder.glob(f"*{_DRAFT_SUFFIX}"):
            with contextlib.suppress(OSError):
                if draft.stat().st_mtime < time.time() - _DRAFT_LIFE_S:
                    draft.unlink()

    def _look(self, path: Path) -> PendingMessage | None:
        try:
            envelope, due_at = _read_envelope(path), path.stat().st_mtime
        except (OSError, Unreadable):
            return None
        return PendingMessage(path, envelope, due_at)


class StoredMessage:
    """A message in a file, which is one worker's to send from `take` to `release`."""

    is_kept = True
    """Whether it outlives the process."""

    def __init__(self, path: Path, envelope: Envelope) -> None:
        """Be about the message in the file `path`."""
        self.path = path
        self.envelope = envelope
        self._descriptor: int | None = None

    def take(self) -> tuple[Message, float] | None:
        """Return the message and when it is due, in seconds of Unix time; None if it is there no more.

        Raises:
            Taken: another worker is sending it.
            OSError: it cannot be read.
        """
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken from None  # It is no fault.
        except OSError:
            pass  # Where a disk takes no locks, two workers may send it; its id tells the receiver.
        status = os.fstat(self._descriptor)
        if not status.st_nlink:
            return None  # Who held the lock before has delivered it.
        with open(self._descriptor, "rb", closefd=False) as file:
            try:
                return unpack(file.read()), status.st_mtime
            except Unreadable:
                set_aside(self.path)
                return None

    def put_off(self, until: float) -> None:
        """Let nobody send it before `until`, in seconds of Unix time."""
        if self._descriptor is not None:
            os.utime(self._descriptor, (time.time(), until))

    def remove(self) -> None:
        """Take the message out of the folder: it is delivered, or given up."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def set_aside(path: Path) -> None:
    """Rename a file that holds no message, so that nobody tries it again."""
    path.rename(path.with_suffix(_ASIDE_SUFFIX))
    log.warning("webhooks.set_aside", file=path.name)


def _read_envelope(path: Path) -> Envelope:
    with path.open("rb") as file:
        return unpack_envelope(file.readline(_LONGEST_LINE_BYTES))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
