"""A disk that takes its time, and what a loss of power leaves of a database."""

import errno
import os
import threading
from pathlib import Path


class SlowDisk:
    """Stands where the system is asked to force a file to the disk: no real one can be made to fail, or to wait."""

    def __init__(self) -> None:
        """Be as quick as a disk is."""
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.is_asked = threading.Event()
        self.fails = False
        self.count = 0

    def sync(self, descriptor: int) -> None:
        """Force a file to the disk when it goes on."""
        self.is_asked.set()
        self.goes_on.wait()
        self.count += 1
        if self.fails:
            raise OSError(errno.EIO, "the disk fails")
        os.fdatasync(descriptor)


def after_power_loss(path: Path, folder: Path, log_bytes: int) -> Path:
    """Return the database as it is when of its log only the first bytes have reached the disk."""
    folder.mkdir()
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    log = path.with_name(f"{path.name}-wal")
    copy.with_name(log.name).write_bytes(log.read_bytes()[:log_bytes])
    return copy
