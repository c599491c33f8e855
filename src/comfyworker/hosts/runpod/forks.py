"""Processes that the SDK forks off: none outlives the worker, however that ends.

The SDK's heartbeat is such a process. It inherits our pipes and sockets: where it lived on after a killed worker, so
would ComfyUI, whose guard waits for the end of such a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from typing import Final

from comfyworker.logs import configure_logs
from comfyworker.settings import LogSettings
from comfyworker.spawning import let_forks_wait

_PR_SET_PDEATHSIG: Final = 1
_STDERR: Final = 2


def guard_forks(settings: LogSettings) -> None:
    """Have every process that is forked from now on end with this one; there is no way back.

    Call it in the thread that will fork, which must live as long as the process: Linux ends the child with the thread
    that made it (prctl(2), PR_SET_PDEATHSIG).
    """
    # From Python 3.14 on a server process forks instead of us, whose children we could not hold.
    multiprocessing.set_start_method("fork", force=True)
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    let_forks_wait()
    os.register_at_fork(after_in_child=functools.partial(_become_child, os.getpid(), library, settings))


def _become_child(parent: int, library: ctypes.CDLL | None, settings: LogSettings) -> None:
    if library is not None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it ended before it could be watched
    # Only the main thread of a process may; a fork by another thread has no handlers of ours to lose.
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker ends us
    # With a lock of its own: another thread may have held the log's just when this process was made.
    configure_logs(settings, stream=os.fdopen(_STDERR, "w", buffering=1, encoding="utf-8", closefd=False))
