"""A folder behind a slow disk, in a process of its own: `python -m benchmarks.slow_volume`, its JSON on stdin.

It speaks the kernel's FUSE protocol (include/uapi/linux/fuse.h), read only, and answers each read a while after it
came, many at the same time, as a network disk does. That needs /dev/fuse and the right to mount. Prints `ready`, or why
it cannot be, and serves until stdin ends.
"""

import ctypes
import errno
import json
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

_THREADS = 16
_BUFFER_BYTES = 1 << 20
_VERSION = (7, 31)
_ASYNC_READ, _PARALLEL_DIROPS = 1 << 0, 1 << 18
_KEEP_CACHE = 1 << 1
_VALID_S = 0
"""How long the kernel takes what it was told of a file for true."""
_ROOT = 1
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MNT_DETACH = 1, 2, 4, 2
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_NO_ANSWER = frozenset({2, 36, 42})
"""FORGET, INTERRUPT, BATCH_FORGET."""


class SlowVolume:
    """Serves the files below one folder at a mount point."""

    def __init__(self, source: Path, mount: Path, *, latency_s: float) -> None:
        """Mount `source` at `mount`; each read is answered after `latency_s`.

        Raises:
            OSError: it cannot be mounted.
        """
        self._paths = {_ROOT: source}
        self._ids = {source: _ROOT}
        self._lock = threading.Lock()
        self._latency_s = latency_s
        self._mount = mount
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        if self._libc.mount(b"slow", os.fsencode(mount), b"fuse", flags, options.encode()):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup, 3: self._getattr, 14: self._open, 15: self._read, 17: self._statfs,
            18: self._nothing, 26: self._init, 27: self._open, 28: self._readdir, 29: self._nothing,
        }  # fmt: skip

    def serve(self) -> None:
        """Answer in threads, which end with the mount."""
        for _ in range(_THREADS):
            threading.Thread(target=self._work, daemon=True).start()

    def close(self) -> None:
        """Take it away; what is open can be read no more."""
        self._libc.umount2(os.fsencode(self._mount), _MNT_DETACH)

    def _work(self) -> None:
        while True:
            try:
                request = os.read(self._device, _BUFFER_BYTES)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):  # the second for a request that was taken back
                    continue
                return
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in _NO_ANSWER:
                continue
            code, body = 0, b""
            try:
                body = self._answers.get(opcode, self._unknown)(node, request[_IN.size :])
            except OSError as error:
                code = -(error.errno or errno.EIO)
            try:
                os.write(self._device, _OUT.pack(_OUT.size + len(body), code, unique) + body)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    return

    def _init(self, _node: int, body: bytes) -> bytes:
        max_readahead = struct.unpack_from("<III", body)[2]
        flags = _ASYNC_READ | _PARALLEL_DIROPS
        return struct.pack("<IIIIHHIIHHI7I", *_VERSION, max_readahead, flags, 64, 48, 1 << 17, 1, 0, 0, 0, *[0] * 7)

    def _lookup(self, node: int, body: bytes) -> bytes:
        path = self._paths[node] / os.fsdecode(body.rstrip(b"\0"))
        found = path.stat()
        with self._lock:
            number = self._ids.setdefault(path, len(self._ids) + 1)
            self._paths[number] = path
        return struct.pack("<QQQQII", number, 0, _VALID_S, _VALID_S, 0, 0) + _attributes(number, found)

    def _getattr(self, node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", _VALID_S, 0, 0) + _attributes(node, self._paths[node].stat())

    def _open(self, node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", node, _KEEP_CACHE, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        time.sleep(self._latency_s)
        descriptor = os.open(self._paths[node], os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        answer = b""
        for number, name in enumerate(sorted(self._paths[node].iterdir())[offset:], offset + 1):
            raw = os.fsencode(name.name)
            entry = struct.pack("<QQII", 1, number, len(raw), 0) + raw
            entry += b"\0" * (-len(entry) % 8)
            if len(answer) + len(entry) > size:
                break
            answer += entry
        return answer

    def _statfs(self, _node: int, _body: bytes) -> bytes:
        return struct.pack("<QQQQQIIII6I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0, *[0] * 6)

    def _nothing(self, _node: int, _body: bytes) -> bytes:
        return b""

    def _unknown(self, _node: int, _body: bytes) -> bytes:
        raise OSError(errno.ENOSYS, "")


def _attributes(number: int, found: os.stat_result) -> bytes:
    times = [getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")]
    kind = stat.S_IFDIR | 0o555 if stat.S_ISDIR(found.st_mode) else stat.S_IFREG | 0o444
    return struct.pack(
        "<QQQQQQIIIIIIIIII",
        number, found.st_size, found.st_blocks, *(each // 10**9 for each in times),
        *(each % 10**9 for each in times), kind, 1, 0, 0, 0, 4096, 0,
    )  # fmt: skip


if __name__ == "__main__":
    plan = json.loads(sys.stdin.readline())
    try:
        volume = SlowVolume(Path(plan["source"]), Path(plan["mount"]), latency_s=plan["latency_s"])
    except OSError as error:
        sys.exit(f"a slow volume cannot be mounted here: {error.strerror}")
    try:
        volume.serve()
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        volume.close()
