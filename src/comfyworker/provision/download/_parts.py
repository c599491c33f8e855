"""Files that are not whole yet, with a journal beside them of what has come.

Each download writes to a file whose name nobody else has, so no two processes ever share one, whatever the file system
makes of locks. An interrupted one is taken over by renaming it: of several that try, one succeeds. The lock on it only
saves work: it tells that somebody is still at it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.provision.download._spans import Spans

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SUFFIX = ".part"
JOURNAL_SUFFIX = ".part.json"
SILENT_S = 60.0
"""How long the journal of a live download may stay as it is, seen from another machine; it is written every second."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Journal(BaseModel):
    """What has come of a file."""

    model_config = ConfigDict(frozen=True)

    identity: str | None
    """Which state of which file it is; None is one that cannot be resumed."""
    size_bytes: int | None
    spans: tuple[tuple[int, int], ...] = ()
    machine: str = ""
    """Whose locks can be trusted: the machine's name and its start."""


class Part:
    """A file that is being downloaded, open and locked."""

    def __init__(self, path: Path, descriptor: int, journal: Journal) -> None:
        """Write to `path`; what the journal says has come is there."""
        self.path = path
        self.descriptor = descriptor
        self.identity = journal.identity
        self.size_bytes = journal.size_bytes
        self.spans = Spans(journal.spans)
        self.resumed_bytes = self.spans.total
        self.restarts = 0
        """How often what had come was forgotten."""

    @property
    def filename(self) -> str:
        """What it will be called."""
        return self.path.name.removesuffix(SUFFIX)[1:].rpartition(".")[0].rpartition(".")[0]

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return journal_of(self.path)

    def write(self, chunks: list[bytes], offset: int) -> None:
        """Write all of `chunks` at `offset`; raises OSError. `spans` is the caller's to keep."""
        views = [memoryview(chunk) for chunk in chunks]
        while views:
            written = os.pwritev(self.descriptor, views, offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views and written:
                views[0] = views[0][written:]

    def save(self, spans: tuple[tuple[int, int], ...]) -> None:
        """Bring what has come to the disk, then say so in the journal; raises OSError."""
        os.fdatasync(self.descriptor)
        write_journal(self.path, self._journal(spans))

    def begin_anew(self) -> None:
        """Forget what has come; raises OSError."""
        self.restarts += 1
        self.spans.clear()
        self.resumed_bytes = 0
        os.ftruncate(self.descriptor, 0)
        write_journal(self.path, self._journal(()))

    def finish(self, target: Path) -> os.stat_result:
        """Bring the whole file to the disk and to its place; return what it is there; raises OSError."""
        os.fsync(self.descriptor)
        self.path.replace(target)
        _sync_folder(target.parent)
        self.journal_path.unlink(missing_ok=True)
        return os.fstat(self.descriptor)

    def close(self) -> None:
        """Let go of it; it stays for the next try."""
        os.close(self.descriptor)

    def discard(self) -> None:
        """Remove it; something else that is at it keeps what it has open."""
        self.path.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)

    def _journal(self, spans: tuple[tuple[int, int], ...]) -> Journal:
        return Journal(identity=self.identity, size_bytes=self.size_bytes, spans=spans, machine=this_machine())


class PartInUse(Exception):
    """Somebody else is downloading the same file."""

    def __init__(self, path: Path) -> None:
        """Keep which."""
        super().__init__(path.name)
        self.path = path


def key_of(url: str) -> str:
    """Return what the unfinished files of a URL have in their names; no part of the URL can be read from it."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def journal_of(path: Path) -> Path:
    """Return where the journal of an unfinished file is."""
    return path.with_name(path.name.removesuffix(SUFFIX) + JOURNAL_SUFFIX)


def unfinished(folder: Path, filename: str, key: str) -> list[Path]:
    """Return what earlier tries left of a file, the newest first."""
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(f".{filename}.{key}.") and entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    found.append((entry.stat().st_mtime_ns, Path(entry.path)))
    return [path for _, path in sorted(found, reverse=True)]


def claim(
    folder: Path,
    filename: str,
    key: str,
    *,
    identity: str | None,
    size_bytes: int | None,
    besides: frozenset[Path] = frozenset(),
) -> Part:
    """Return the file to write to: what an earlier try left of the same state of the same file, else a new one.

    What was left of another state is removed; what is in `besides` is left alone.

    Raises:
        PartInUse: another download of the file is under way.
        OSError: the folder cannot be written.
    """
    wanted = Journal(identity=identity, size_bytes=size_bytes, machine=this_machine())
    path = folder / f".{filename}.{key}.{secrets.token_hex(4)}{SUFFIX}"
    for left in unfinished(folder, filename, key):
        part = None if left in besides else _taken_over(left, path, wanted)
        if part is not None:
            return part
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    part = Part(path, descriptor, wanted)
    try:
        _lock(descriptor)
        write_journal(path, wanted)
    except BaseException:
        part.close()
        part.discard()
        raise
    return part


def read_journal(path: Path) -> Journal | None:
    """Return the journal of an unfinished file; None if there is none that can be read."""
    try:
        return Journal.model_validate_json(journal_of(path).read_bytes())
    except (OSError, ValidationError):
        return None


def write_journal(path: Path, journal: Journal) -> None:
    """Write the journal of an unfinished file, whole or not at all; raises OSError."""
    target = journal_of(path)
    spare = target.with_name(f"{target.name}.new")
    spare.write_text(journal.model_dump_json(), encoding="utf-8")
    spare.replace(target)


def is_in_use(path: Path) -> bool:
    """Tell whether somebody is writing to an unfinished file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor) or _is_written_elsewhere(path)
    finally:
        os.close(descriptor)


@functools.cache
def this_machine() -> str:
    """Return what tells this machine's run from all others."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


def _taken_over(left: Path, path: Path, wanted: Journal) -> Part | None:
    """Make `left` ours, under the name `path`; None if it is of no use, and is then removed."""
    try:
        descriptor = os.open(left, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not _lock(descriptor) or _is_written_elsewhere(left):
            raise PartInUse(left)
        journal = read_journal(left)
        is_of_use = journal is not None and wanted.identity is not None and _is_same(journal, wanted)
        if journal is None or not is_of_use or os.fstat(descriptor).st_size < _end(journal):
            with contextlib.suppress(OSError):
                left.unlink()
                journal_of(left).unlink(missing_ok=True)
        elif _renamed(left, path):
            part = Part(path, descriptor, journal)
            write_journal(path, journal.model_copy(update={"machine": this_machine()}))
            journal_of(left).unlink(missing_ok=True)
            log.info("provision.download_resumed", filename=path.name, kept_bytes=part.resumed_bytes)
            descriptor = -1
            return part
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def _is_same(journal: Journal, wanted: Journal) -> bool:
    return (journal.identity, journal.size_bytes) == (wanted.identity, wanted.size_bytes)


def _end(journal: Journal) -> int:
    return max((end for _, end in journal.spans), default=0)


def _renamed(left: Path, path: Path) -> bool:
    try:
        left.rename(path)
    except FileNotFoundError:
        return False  # Somebody else was faster.
    return True


def _lock(descriptor: int) -> bool:
    """Lock an open file; False if somebody else has. Where the file system has no locks, nobody ever has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_written_elsewhere(path: Path) -> bool:
    """Tell whether another machine, whose locks may not reach us, is likely to be writing to a file."""
    journal = read_journal(path)
    if journal is None or journal.machine in {"", this_machine()}:
        return False
    try:
        silent_s = time.time() - journal_of(path).stat().st_mtime
    except OSError:
        return False
    return -SILENT_S < silent_s < SILENT_S


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where its file system lets that be done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def all_unfinished(folder: Path) -> Iterator[Path]:
    """Yield the unfinished files in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(SUFFIX):
                yield Path(entry.path)
