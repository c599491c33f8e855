"""Files that tell a later worker under which client ids a killed one has sent prompts to a ComfyUI.

A ComfyUI of COMFY_API_URL outlives its workers, and goes on with the prompts of one that was killed. It keeps the
client id with each prompt (`server.py`, post_prompt), so one small file for each client id is enough to find them all:
nothing is written for a job. The file is locked for as long as its worker lives; the kernel lets go of the lock when
the worker is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FORGOTTEN_AFTER_S = 30 * 86400.0


class _Machine(BaseModel):
    """Where a file was locked. Disks on the network do not always tell one machine of another's locks."""

    model_config = ConfigDict(frozen=True)

    host: str
    boot_id: str
    """The running kernel's, the same in all of its containers; empty where there is none."""

    def shares_locks(self, other: _Machine) -> bool:
        return self.host == other.host or (self.boot_id != "" and self.boot_id == other.boot_id)


class ClientRecord:
    """One such file, locked until `remove` or `release`; all of this blocks."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Know a file that this process has locked."""
        self._path = path
        self._descriptor = descriptor

    @property
    def client_id(self) -> str:
        """The client id that the prompts were sent under."""
        return self._path.name.partition(".")[2]

    def remove(self) -> None:
        """Take the file away: none of its prompts is left."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.release()

    def release(self) -> None:
        """Leave the file to the next worker."""
        os.close(self._descriptor)


def write_record(folder: Path, url: str, client_id: str) -> ClientRecord:
    """Write down that this worker sends prompts to the ComfyUI at `url` under `client_id`.

    Raises:
        OSError: the disk does not take the file, or takes no locks.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{_key(url)}.{client_id}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Not at once or never: somebody who looks for dead workers may hold it for a moment, and finds it empty.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, _this_machine().model_dump_json().encode())
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return ClientRecord(path, descriptor)


def take_dead_records(folder: Path, url: str) -> tuple[ClientRecord, ...]:
    """Return the records of workers that were killed while they used the ComfyUI at `url`, locked by us now."""
    machine = _this_machine()
    records = [_take(path, machine) for path in sorted(folder.glob(f"{_key(url)}.*"))]
    return tuple(record for record in records if record is not None)


def _take(path: Path, machine: _Machine) -> ClientRecord | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    record = ClientRecord(path, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        content = os.read(descriptor, 4096)
    except OSError:  # its worker lives, or the disk takes no locks
        record.release()
        return None
    if state.st_nlink > 0 and _is_of(machine, content):
        return record
    if time.time() - state.st_mtime > _FORGOTTEN_AFTER_S:
        record.remove()
    else:
        record.release()
    return None


def _is_of(machine: _Machine, content: bytes) -> bool:
    try:
        return _Machine.model_validate_json(content).shares_locks(machine)
    except ValidationError:  # empty: its worker had not begun yet
        return False


def _this_machine() -> _Machine:
    try:
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return _Machine(host=socket.gethostname(), boot_id=boot_id)


def _key(url: str) -> str:
    # Not the URL itself, which may hold a password.
    return hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
