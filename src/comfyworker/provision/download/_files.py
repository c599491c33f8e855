"""Files of this machine, brought to where they shall be without copying where the file system lets us."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from comfyworker.finishing import in_thread
from comfyworker.provision.download._faults import Fault, disk_fault
from comfyworker.provision.download._hashing import BLOCK_BYTES, hash_file
from comfyworker.provision.download._looking import BEGINNING_BYTES
from comfyworker.provision.download._parts import SUFFIX

_FICLONE = 0x40049409
"""Linux' ioctl that makes one file share the blocks of another: https://man7.org/linux/man-pages/man2/ioctl_ficlone.2.html"""


def local_path(url: str) -> Path | None:
    """Return the file of this machine that an address means; None if it means none.

    Raises:
        Fault: it is a file:// URL of another machine.
    """
    if "://" not in url:
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in {"", "localhost"}:
        raise Fault("is a file of another machine", "invalid_url", hint="Write file:///path/to/the/file.")
    return Path(unquote(parts.path))


def check_local(path: Path) -> os.stat_result:
    """Return what a file is.

    Raises:
        Fault: there is none that can be read, or it is empty.
    """
    try:
        found = path.stat()
        is_file = stat.S_ISREG(found.st_mode)
        if is_file:
            path.open("rb").close()
    except FileNotFoundError:
        raise Fault("is not there", "not_found", hint="Look at its path.") from None
    except OSError as error:
        raise Fault(f"cannot be read: {error.strerror}", "unreadable") from None
    if not is_file:
        raise Fault("is no file", "unreadable", hint="Name a single file.")
    if not found.st_size:
        raise Fault("is empty", "not_a_model")
    return found


def beginning_of(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        Fault: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(BEGINNING_BYTES)
    except OSError as error:
        raise Fault(f"cannot be read: {error.strerror}", "unreadable") from None


async def place(
    source: Path,
    target: Path,
    *,
    check: Callable[[str], None],
    on_bytes: Callable[[int], None],
    known: str | None = None,
) -> str:
    """Bring a file of this machine to `target`, whole or not at all; return its SHA-256.

    Blocks are shared where the file system can, else the file is linked, else it is copied.

    Args:
        source: The file.
        target: Where it shall be; what is there is replaced, and its folder is made.
        check: Called with the SHA-256 before the file takes its place; raises what is to be raised.
        on_bytes: Called with the bytes that were read.
        known: The SHA-256 of a file that is ours, and that nobody changes: it is linked rather than its blocks
            shared, and not read for that.

    Raises:
        Fault: one of them cannot be read or written.
        InsufficientStorage: the disk is full.
    """
    spare = target.with_name(f".{target.name}.{'0' * 8}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        source = await in_thread(functools.partial(source.resolve))
        await in_thread(functools.partial(target.parent.mkdir, parents=True, exist_ok=True))
        if await in_thread(functools.partial(_linked, source, spare, link_first=known is not None)):
            digest = known or await hash_file(spare, on_bytes=on_bytes)
        else:
            digest = await _copied(source, spare, on_bytes)
        check(digest)
        await in_thread(functools.partial(spare.replace, target))
    except OSError as error:
        raise disk_fault(error, target.name) from None
    finally:
        # Of two links of one file, os.replace keeps both.
        await in_thread(functools.partial(spare.unlink, missing_ok=True))
    return digest


def _linked(source: Path, spare: Path, *, link_first: bool) -> bool:
    ways = (_hard_linked, _reflinked) if link_first else (_reflinked, _hard_linked)
    return any(way(source, spare) for way in ways)


def _hard_linked(source: Path, spare: Path) -> bool:
    try:
        os.link(source, spare)
    except OSError:  # Another file system, or one without links, or somebody else's file.
        return False
    return True


def _reflinked(source: Path, spare: Path) -> bool:
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(source.open("rb"))
        write = stack.enter_context(spare.open("xb"))
        try:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
        except OSError:  # Another file system, or one that cannot.
            spare.unlink()
            return False
        os.fsync(write.fileno())
    return True


async def _copied(source: Path, spare: Path, on_bytes: Callable[[int], None]) -> str:
    copy = await in_thread(functools.partial(_Copy, source, spare))
    try:
        while await in_thread(copy.step):
            on_bytes(copy.done_bytes)
        await in_thread(copy.sync)
    finally:
        copy.close()
    return copy.digest.hexdigest()


class _Copy:
    """A copy that is hashed on its way, so that nothing is read twice."""

    def __init__(self, source: Path, spare: Path) -> None:
        self._read = source.open("rb", buffering=0)
        try:
            self._write = spare.open("xb", buffering=0)
        except OSError:
            self._read.close()
            raise
        self._buffer = bytearray(BLOCK_BYTES)
        self.digest = hashlib.sha256()
        self.done_bytes = 0

    def step(self) -> bool:
        count = self._read.readinto(self._buffer)
        with memoryview(self._buffer)[:count] as block:
            self.digest.update(block)
            written = 0
            while written < count:
                written += self._write.write(block[written:]) or 0
        self.done_bytes += count
        return count > 0

    def sync(self) -> None:
        os.fsync(self._write.fileno())

    def close(self) -> None:
        self._read.close()
        self._write.close()
