"""Several workers on one volume: one does the work, the others wait and see how far it is.

A lease only saves work: what is written is right without it, since every file gets a name of its own and is renamed
into place. So it may fail in the direction of two workers at a time, never in that of none. No file locks are used:
on network disks `flock` may succeed everywhere at once.

The file holds who has the lease and how often its holder has written it. A holder whose file does not change any more
is dead, by the waiter's own clock: the clocks of several machines are never compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from comfyworker.finishing import in_thread
from comfyworker.replacing import replace_file

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BEAT_S = 1.0
"""Seconds between two writes of a holder."""
EXPIRES_S = 20.0
"""Seconds without one after which a holder counts as dead: a disk may be slow, and a machine may be busy."""
LEASE_NAME = "lease.json"

Snapshot = dict[str, JsonValue]


class _Holder(BaseModel):
    """Which process has a lease; the fields but the id tell a waiter on the same machine at once that it is dead."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    host: str = ""
    boot: str = ""
    namespace: str = ""
    """Of process ids: containers on one machine may share a host's name."""
    pid: int = 0
    started: str = ""
    """When the process began, in ticks of the machine: a pid may be another process's by now."""


class _Lease(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    holder: _Holder
    beat: int = 0
    progress: Snapshot = {}


class LeaseLost(Exception):
    """Another worker has taken the lease over, as this one did not write for too long; look again, and wait."""


class Lease:
    """A lease that this process has; `progress` is asked for with every beat."""

    def __init__(self, path: Path, holder: _Holder) -> None:
        """Name the file and the holder."""
        self.path = path
        self.progress: Callable[[], Snapshot] = dict
        self._holder = holder
        self._beat = 0

    async def keep(self, beat_s: float) -> None:
        """Write the file again and again, until cancelled.

        Raises:
            LeaseLost: it has become another's.
        """
        while True:
            await asyncio.sleep(beat_s)
            self._beat += 1
            lease = _Lease(holder=self._holder, beat=self._beat, progress=self.progress())
            if not await asyncio.to_thread(self._write, lease):
                raise LeaseLost

    def release(self) -> None:
        """Let others have it; what is another's by now stays."""
        found = _read(self.path)
        if found is not None and found.holder.id == self._holder.id:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _write(self, lease: _Lease) -> bool:
        found = _read(self.path)
        if found is not None and found.holder.id != self._holder.id:
            return False
        # A disk that cannot be written now costs at most the lease; the work goes on, and says what is wrong itself.
        with contextlib.suppress(OSError):
            _put(self.path, lease)
        return True


@contextlib.asynccontextmanager
async def hold_lease(
    folder: Path,
    *,
    on_wait: Callable[[Snapshot, str], None],
    beat_s: float = BEAT_S,
    expires_s: float = EXPIRES_S,
) -> AsyncIterator[Lease]:
    """Wait until no other worker has the lease of a folder, then have it while the context lasts.

    Args:
        folder: A state folder; it is made.
        on_wait: Told while another has it: how far that one is, and the name of its machine.
        beat_s: Seconds between two writes.
        expires_s: Seconds without a write after which a holder counts as dead.

    Raises:
        LeaseLost: another worker took it over meanwhile; the context's body has been cancelled.
    """
    path, holder = folder / LEASE_NAME, await asyncio.to_thread(_this_process)
    await _take(path, holder, on_wait=on_wait, look_s=min(beat_s, expires_s / 4), expires_s=expires_s)
    lease = Lease(path, holder)
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(lease.keep(beat_s), name="keeping the lease of a volume")
            try:
                yield lease
            except Exception as error:  # noqa: BLE001  # raised below, outside of the group, which would wrap it
                failure = error
            keeper.cancel()
    except* LeaseLost:
        log.warning("provision.lease_lost", folder=folder.name)
        failure = LeaseLost()
    finally:
        await in_thread(lease.release)
    if failure is not None:
        raise failure


async def _take(
    path: Path, holder: _Holder, *, on_wait: Callable[[Snapshot, str], None], look_s: float, expires_s: float
) -> None:
    loop = asyncio.get_running_loop()
    seen: tuple[str, int] | None = None
    seen_at = loop.time()
    while True:
        found = await asyncio.to_thread(_read, path)
        if found is None and await asyncio.to_thread(_create, path, _Lease(holder=holder)):
            return
        if found is None:
            continue  # another one was faster, or its file is being replaced
        if found.holder.id == holder.id:
            return
        if (found.holder.id, found.beat) != seen:
            seen, seen_at = (found.holder.id, found.beat), loop.time()
        if _is_dead(found.holder, holder) or loop.time() - seen_at > expires_s:
            log.info("provision.lease_expired", host=found.holder.host)
            if not await asyncio.to_thread(_replace, path, _Lease(holder=holder)):
                return  # a disk that cannot be written: the work itself will say so
            await asyncio.sleep(look_s / 2)  # two that take over at once: the file says whose it is in the end
            continue
        on_wait(found.progress, found.holder.host)
        await asyncio.sleep(look_s)  # a network disk tells nobody that a file has changed


def _this_process() -> _Holder:
    return _Holder(
        id=secrets.token_hex(8),
        host=socket.gethostname(),
        boot=_text(Path("/proc/sys/kernel/random/boot_id")),
        namespace=_link(Path("/proc/self/ns/pid")),
        pid=os.getpid(),
        started=_started(os.getpid()),
    )


def _is_dead(other: _Holder, own: _Holder) -> bool:
    """Tell whether a holder is known to be dead; False where that cannot be known from here."""
    is_here = own.boot and own.namespace and (own.host, own.boot, own.namespace) == (
        other.host, other.boot, other.namespace,
    )  # fmt: skip
    return bool(is_here) and bool(other.started) and _started(other.pid) != other.started


def _started(pid: int) -> str:
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    # A process that has ended and that nobody has waited for yet is dead too (proc_pid_stat(5), fields 3 and 22).
    return fields[19] if len(fields) > 19 and fields[0] not in {"Z", "X"} else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _read(path: Path) -> _Lease | None:
    """Return what the file says; None if there is none. One that cannot be read is nobody's."""
    try:
        return _Lease.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return _Lease(holder=_Holder(id=f"unreadable {_mark(path)}"))


def _mark(path: Path) -> str:
    try:
        return str(path.stat().st_mtime_ns)
    except OSError:
        return ""


def _create(path: Path, lease: _Lease) -> bool:
    """Make the file with its content in one step, if there is none; return whether it was made.

    Where the disk cannot be written there is nothing to share: then the caller goes on without.
    """
    draft = _draft(path, lease)
    if draft is None:
        return True
    try:
        os.link(draft, path)  # fails if there is one, on network disks too
    except FileExistsError:
        return False
    except OSError:
        draft.replace(path)  # a disk without links
    else:
        return True
    finally:
        draft.unlink(missing_ok=True)
    return False  # looked at once more, by reading whose it is


def _replace(path: Path, lease: _Lease) -> bool:
    try:
        _put(path, lease)
    except OSError:
        return False
    return True


def _put(path: Path, lease: _Lease) -> None:
    replace_file(path, lease.model_dump_json().encode())


def _draft(path: Path, lease: _Lease) -> Path | None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(lease.model_dump_json().encode())
    except OSError as error:
        log.warning("provision.lease_not_written", reason=error.strerror)
        return None
    return draft
