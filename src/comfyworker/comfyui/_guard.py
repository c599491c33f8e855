"""Starts ComfyUI and ends it, with everything it started, when the worker ends, however it ends.

Runs alone in the worker's interpreter (`python -I -S _guard.py GRACE_S COMMAND…`), with the standard library only.
Its standard input is a pipe whose other end only the worker holds: when the worker dies, even by SIGKILL, the pipe
closes. As a "child subreaper" (Linux, prctl(2)) it also gets hold of processes whose own parents have ended, so that
nothing a custom node started can slip away. On other systems it falls back to the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_KILL_ROUNDS = 100
_ROUND_S = 0.02
_CANNOT_START = 127  # as shells say it


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


def _prepare_child() -> None:
    # If the guard itself is killed, ComfyUI must not outlive it.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A shell that put the worker into the background made it ignore SIGINT, and that is inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _parents() -> dict[int, int]:
    """Return pid → parent's pid for every process that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The second field is the command in parentheses and may hold anything.
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def _descendants() -> set[int]:
    parents = _parents() if sys.platform == "linux" else {}
    found: set[int] = set()
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if (parent == os.getpid() or parent in found)} - found
        grew = bool(more)
        found |= more
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _kill_descendants() -> None:
    """Kill whatever is left; again and again, since a process may be forking while it is looked for."""
    for _ in range(_KILL_ROUNDS):
        left = _descendants()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(_ROUND_S)


def _reap_orphans(child: subprocess.Popen[bytes]) -> None:
    """Let go of ended processes whose own parents have ended; a subreaper who does not, gathers zombies."""
    with contextlib.suppress(ChildProcessError):
        while sys.platform == "linux":
            # Only looked at: the child's own status belongs to `child.poll`.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == child.pid:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def _wait_for_end(child: subprocess.Popen[bytes], wakeup: socket.socket, stops: list[int]) -> bool:
    """Wait until the child ends or somebody asks for its end; return whether it ended by itself."""
    while True:
        _reap_orphans(child)
        if child.poll() is not None:
            return True
        if stops:
            return False
        ready, _, _ = select.select([0, wakeup.fileno()], [], [])
        if wakeup.fileno() in ready:
            wakeup.recv(4096)
        if 0 in ready and not os.read(0, 4096):
            return False


def _stop(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask ComfyUI to end as Ctrl-C would, and kill it when it does not within the grace period; at once without one."""
    if grace_s > 0:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=grace_s)
            return
    child.kill()
    child.wait()


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` to its end; return its exit code, or 128 + the signal that ended it."""
    stops: list[int] = []
    wakeup, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stops.append(received))
    signal.signal(signal.SIGCHLD, lambda _received, _frame: None)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare_child)  # noqa: PLW1509  # no threads here
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)
        return _CANNOT_START
    if not _wait_for_end(child, wakeup, stops):
        # Nobody waits for what a dead worker's ComfyUI still does, and the next worker wants its folders and its GPU.
        _stop(child, grace_s if stops else 0.0)
    _kill_descendants()
    code = child.returncode
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
