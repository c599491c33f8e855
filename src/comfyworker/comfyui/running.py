"""Running a program to its end, with its output read line by line; it never outlives us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from comfyworker.errors import InstallFailed
from comfyworker.settings import process_environment
from comfyworker.spawning import spawning

_GUARD = Path(__file__).with_name("_guard.py")
_GUARD_GRACE_S = 2
_TAIL_LINES = 30
_CHUNK_BYTES = 65536
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class CommandFailed(Exception):
    """A program ended with an error, could not be started, or took too long."""

    def __init__(self, program: str, reason: str, tail: Sequence[str]) -> None:
        """Keep what the program said last."""
        super().__init__(f"{program} {reason}")
        self.program = program
        self.reason = reason
        self.tail = tuple(tail)

    def to_install_failed(self, message: str, hint: str) -> InstallFailed:
        """Return the failure as the install's, with the last lines of output in its details."""
        return InstallFailed(f"{message}: {self}", hint=hint, details={"output": "\n".join(self.tail)})


def ignore_line(text: str) -> None:
    """Take a line of output and do nothing."""


async def run_command(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None] = ignore_line,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    extra_env: Mapping[str, str] | None = None,
    limit_s: float | None = None,
) -> tuple[str, ...]:
    """Run a program to its end and return its last lines of output (stdout and stderr together).

    If cancelled, or past `limit_s`, the program and all that it started are killed.

    Args:
        command: The program and its arguments.
        on_line: Hears each line of output.
        cwd: The folder to run it in.
        environment: Its environment; None is the worker's own, secrets included.
        extra_env: Variables beside those.
        limit_s: Seconds that it may take.

    Raises:
        CommandFailed: it could not be started, ended with an error, or took longer than `limit_s`.
    """
    program = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise CommandFailed(program, "is not there, or is no program", ())
    with spawning():
        process = await asyncio.create_subprocess_exec(
            # The guard ends the program when this process is killed: a pip that lives on would write into the
            # environment that the next install makes anew. It notices by its standard input.
            *(sys.executable, "-I", "-S", str(_GUARD), str(_GUARD_GRACE_S), *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env={**(process_environment() if environment is None else environment), **(extra_env or {})},
            # A group of its own, so that what pip starts in its turn can be ended with it.
            start_new_session=True,
        )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        async with asyncio.timeout(limit_s):
            await _read_lines(process, tail, on_line)
            returncode = await process.wait()
    except TimeoutError as error:
        raise CommandFailed(program, f"took longer than {limit_s:g} s", tail) from error
    finally:
        if process.returncode is None:
            _kill_group(process)
            await process.wait()
    if returncode != 0:
        raise CommandFailed(program, f"ended with code {returncode}", tail)
    return tuple(tail)


async def _read_lines(process: asyncio.subprocess.Process, tail: deque[str], on_line: Callable[[str], None]) -> None:
    if process.stdout is None:
        return
    rest = ""
    while chunk := await process.stdout.read(_CHUNK_BYTES):
        # Progress bars end their lines with a carriage return.
        *lines, rest = re.split(r"[\r\n]+", rest + chunk.decode(errors="replace"))
        for line in lines:
            _take_line(line, tail, on_line)
    _take_line(rest, tail, on_line)


def _take_line(line: str, tail: deque[str], on_line: Callable[[str], None]) -> None:
    text = _ANSI.sub("", line).rstrip()
    if text:
        tail.append(text)
        on_line(text)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
