"""A process that has imported what others need: each of those is a fork of it, which starts in no time.

A test that kills a program fifty times would spend most of its time on imports, which no kill changes anything about.
Whatever the program itself does at its start, the fork does as well.

Run as a program: `python -m support.warm_process FD PROGRAM`. It takes a start after the other from the socket FD, and
tells the pid of the process, then its exit code. One runs at a time.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from support.source import REPOSITORY


@dataclass(frozen=True)
class Program:
    """A program that can be run in a fork."""

    function: str
    """What it runs once it is there: `module:function`, which finds its arguments in `sys.argv`."""
    modules: tuple[str, ...] = ()
    """What it imports later, and at each start."""


class Forked:
    """A process that is a fork, with what `asyncio.subprocess.Process` has of it."""

    def __init__(
        self,
        pid: int,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        pipe: asyncio.ReadTransport,
        control: socket.socket,
    ) -> None:
        """Know a process whose stdout comes through `pipe`, and whose exit code will come over `control`."""
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._pipe = pipe
        self._control = control

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return its exit code, which is negative for a signal. What was not read yet is lost."""
        if self.returncode is None:
            self.returncode = int(await asyncio.get_running_loop().sock_recv(self._control, 64))
            self.stdin.close()
            self._pipe.close()
        return self.returncode


class WarmProcess:
    """The process that is forked."""

    def __init__(self, control: socket.socket) -> None:
        """Know a process that listens to the other end of `control`."""
        self._control = control

    async def start(
        self, args: Sequence[str], *, env: Mapping[str, str], cwd: Path, stderr: IO[bytes] | None = None
    ) -> Forked:
        """Start the program in a fork; its stdin and stdout are pipes, its stderr is `stderr`, or the tests'."""
        loop = asyncio.get_running_loop()
        (far_in, near_in), (near_out, far_out) = os.pipe(), os.pipe()
        asked = json.dumps({"args": list(args), "env": dict(env), "cwd": str(cwd)}).encode()
        try:
            socket.send_fds(self._control, [asked], [far_in, far_out, 2 if stderr is None else stderr.fileno()])
        finally:
            os.close(far_in)
            os.close(far_out)
        stdout = asyncio.StreamReader()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(near_out, "rb"))
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(near_in, "wb"))
        stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        pid = int(await loop.sock_recv(self._control, 64))
        return Forked(pid, stdin, stdout, pipe, self._control)


@contextlib.asynccontextmanager
async def warmed(program: Program, *, env: Mapping[str, str]) -> AsyncIterator[WarmProcess]:
    """Have a process that has imported a program for as long as the context is open.

    Args:
        program: What its forks run.
        env: What it has imported the program's modules in.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    told = json.dumps({"function": program.function, "modules": program.modules})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.warm_process", str(far.fileno()), told),
        env=env,
        cwd=REPOSITORY / "tests",
        stdin=subprocess.DEVNULL,
        pass_fds=[far.fileno()],
    )
    far.close()
    try:
        assert await asyncio.get_running_loop().sock_recv(near, 64) == b"warm"
        yield WarmProcess(near)
    finally:
        near.close()
        await process.wait()


def main(control: socket.socket, program: Program) -> None:
    """Import, then fork until nobody asks any more."""
    module, _, name = program.function.partition(":")
    run = getattr(importlib.import_module(module), name)
    for later in program.modules:
        importlib.import_module(later)
    # A fork has the thread that forked and no other; who waits for one of the others would do so for ever.
    assert [task.name for task in Path("/proc/self/task").iterdir()] == [str(os.getpid())]
    gc.freeze()
    control.send(b"warm")
    while True:
        asked, fds, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not asked:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            _become(json.loads(asked), fds)
            run()
            return
        for fd in fds:
            os.close(fd)
        control.send(str(pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(asked: dict[str, Any], fds: list[int]) -> None:
    """Take on the arguments, the environment, the folder and the standard streams of a process of its own."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    sys.argv[1:] = asked["args"]
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])


if __name__ == "__main__":
    told_program = json.loads(sys.argv[2])
    main(socket.socket(fileno=int(sys.argv[1])), Program(told_program["function"], tuple(told_program["modules"])))
