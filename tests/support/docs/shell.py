"""One bash in which a page is followed, as its reader has it open."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.eventually import eventually

_STEP_WITHIN_S = 240.0
_IN_BACKGROUND = re.compile(r"[^&]&\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Entered:
    """What came of something that was entered."""

    code: int
    out_file: Path
    err_file: Path
    leaves_some: bool = False
    """Whether it has left something running in the background."""

    @property
    def out(self) -> str:
        """What it, and what it left running, has written to stdout by now."""
        return self.out_file.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """The same of stderr."""
        return self.err_file.read_text(encoding="utf-8", errors="replace")

    @property
    def shown(self) -> str:
        """What a reader looks at: what a failing command says to people is on stderr."""
        return self.out or self.err


@dataclass(frozen=True)
class Background:
    """A program that serves until it is told to end."""

    pid: int
    out_file: Path
    err_file: Path

    def is_running(self) -> bool:
        """Whether it is still there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def until_says(self, pattern: str, *, within_s: float = 60.0) -> None:
        """Wait until it has written something to stdout; RuntimeError if it ends before."""

        def has_said() -> bool:
            if not self.is_running():
                message = f"it has ended:\n{self.err_file.read_text()[-3000:]}"
                raise RuntimeError(message)
            return re.search(pattern, self.out_file.read_text(encoding="utf-8")) is not None

        await eventually(has_said, within_s=within_s)


class Shell:
    """A bash that keeps its variables, its folder and its background programs from one thing entered to the next."""

    def __init__(self, process: asyncio.subprocess.Process, ended: asyncio.StreamReader, fd: int, folder: Path) -> None:
        """Know a bash that reads commands; it tells on `fd` how each ended."""
        self._process = process
        self._ended = ended
        self._fd = fd
        self._folder = folder
        self._count = 0
        self._servers: list[Background] = []

    async def enter(self, text: str, *, is_script: bool = False) -> Entered:
        """Enter `text` and wait for its end; a script that fails ends the bash, too.

        Args:
            text: A command; or a script, of which each command must succeed.
            is_script: Whether it is a script.
        """
        name = self._next()
        strict = "set -e -o pipefail\n{}\nset +e" if is_script else "set -o pipefail\n{}"
        file = self._folder / f"{name}.sh"
        file.write_text(strict.format(text) + "\n", encoding="utf-8")
        entered = (self._folder / f"{name}.out", self._folder / f"{name}.err")
        self._send(f"source {file} </dev/null >{entered[0]} 2>{entered[1]}; echo $? >&{self._fd}")
        try:
            async with asyncio.timeout(_STEP_WITHIN_S):
                line = await self._ended.readline()
        except TimeoutError:
            err = entered[1].read_text(encoding="utf-8", errors="replace")
            message = f"has not ended after {_STEP_WITHIN_S:.0f} s:\n{text}\n{err[-2000:]}"
            raise AssertionError(message) from None
        return Entered(int(line), *entered, leaves_some=_IN_BACKGROUND.search(text) is not None)

    async def alone(self, text: str) -> Entered:
        """Run a script in a copy of this bash."""
        file = self._folder / f"{self._next()}-alone.sh"
        file.write_text(f"set -e -o pipefail\n{text}\n", encoding="utf-8")
        return await self.enter(f"( source {file} )")

    async def serve(self, command: str) -> Background:
        """Start a program that serves; it is ended before the bash is."""
        name = self._next()
        out, err, pid = (self._folder / f"{name}.{kind}" for kind in ("out", "err", "pid"))
        out.touch()
        err.touch()
        file = self._folder / f"{name}.sh"
        file.write_text(f"{command} </dev/null >{out} 2>{err} &\necho $! >{pid}\n", encoding="utf-8")
        self._send(f"source {file}; echo $? >&{self._fd}")
        await self._ended.readline()
        server = Background(int(pid.read_text()), out, err)
        self._servers.append(server)
        return server

    async def variables(self) -> dict[str, str]:
        """Return what is exported by now."""
        pairs = ((await self.enter("env -0")).out).split("\0")
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs if pair)}

    async def end_servers(self) -> list[str]:
        """Ask what serves to end; return what was wrong with that."""
        faults = []
        for server in self._servers:
            if server.is_running():
                code = (await self.enter(f"kill -TERM {server.pid}; wait {server.pid}")).code
                if code:
                    faults.append(f"what served ended with {code}:\n{server.err_file.read_text()[-3000:]}")
        self._servers.clear()
        return faults

    def _next(self) -> str:
        self._count += 1
        return f"{self._count:03}"

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


@contextlib.asynccontextmanager
async def shell(folder: Path, cwd: Path, environ: Mapping[str, str]) -> AsyncIterator[Shell]:
    """Open a bash in `cwd`; at the end all that it started is killed.

    Args:
        folder: Where it keeps what was entered and what came of it.
        cwd: Where it works.
        environ: Its variables.
    """
    reader, writer = os.pipe()
    ended = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), os.fdopen(reader, "rb"))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--noprofile",
        "--norc",
        cwd=cwd,
        env=dict(environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(writer,),
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"trap 'echo $? >&{writer}' EXIT\n".encode())
    try:
        yield Shell(process, ended, writer, folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        os.close(writer)
        transport.close()
