"""A ComfyUI that we started: its command, its log, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from comfyworker.errors import ComfyUICrashed
from comfyworker.redaction import redact

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GUARD = Path(__file__).with_name("_guard.py")
_TAIL_LINES = 30
_LINE_LIMIT_BYTES = 1 << 20
_KILL_AFTER_GRACE_S = 5.0


class ComfyUIProcess:
    """One run of a ComfyUI process, from start to end; an async context manager that leaves nothing behind.

    ComfyUI runs below a guard process, which ends it and everything it started when this worker ends.
    """

    def __init__(
        self, command: Sequence[str], *, name: str, environment: Mapping[str, str], cwd: Path, grace_s: float
    ) -> None:
        """Prepare to run `command`.

        Args:
            command: Interpreter, script and flags.
            name: What to call it in the log.
            environment: All of the child's environment.
            cwd: Its working directory.
            grace_s: Seconds it gets to end by itself when it is stopped.
        """
        self.name = name
        self.exit_code: int | None = None
        self._command = tuple(command)
        self._environment = dict(environment)
        self._cwd = cwd
        self._grace_s = grace_s
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._guard: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    @property
    def last_lines(self) -> list[str]:
        """The last lines of its log, without directories or secrets."""
        return [redact(line) for line in self._tail]

    async def __aenter__(self) -> Self:
        """Start it."""
        await self._tasks.__aenter__()
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_GUARD), str(self._grace_s), *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._cwd,
            env=self._environment,
            limit=_LINE_LIMIT_BYTES,
            start_new_session=True,  # Ctrl-C in a terminal is ours to handle: jobs are finished or withdrawn first
        )  # fmt: skip
        self._reader = self._tasks.create_task(self._forward_log(), name=f"log of {self.name}")
        log.info("comfyui.started", instance=self.name, pid=self._guard.pid)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, if it still runs, and wait for its end."""
        try:
            await self.stop()
        finally:
            await self._tasks.__aexit__(None, None, None)

    async def wait(self) -> int:
        """Wait for its end; return its exit code (128 + signal number when a signal ended it)."""
        guard = self._started()
        code = await guard.wait()
        if self.exit_code is None:
            self.exit_code = code if code >= 0 else 128 - code
            self._kill_group(guard)
            if self._reader is not None:
                await asyncio.wait({self._reader})
        return self.exit_code

    async def stop(self) -> None:
        """End it and everything it started: as Ctrl-C would, then by force."""
        guard = self._started()
        if guard.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                guard.terminate()
            try:
                async with asyncio.timeout(self._grace_s + _KILL_AFTER_GRACE_S):
                    await guard.wait()
            except TimeoutError:
                log.warning("comfyui.killed", instance=self.name)
                self._kill_group(guard)
        await self.wait()
        log.info("comfyui.stopped", instance=self.name, exit_code=self.exit_code)

    def crash(self, message: str) -> ComfyUICrashed:
        """Return the error for a job that was on this ComfyUI when it ended."""
        return ComfyUICrashed(
            message,
            hint="The last lines of its log say why; it is started again, so that the next job finds it.",
            details={"exit_code": self.exit_code, "log": list(self.last_lines)},
        )

    def describe_end(self) -> str:
        """Return how it ended, for people: `exit code 1`, `signal SIGKILL`."""
        code = self.exit_code or 0
        if code > 128:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def _started(self) -> asyncio.subprocess.Process:
        if self._guard is None:
            message = "the process has not been started"
            raise RuntimeError(message)
        return self._guard

    def _kill_group(self, guard: asyncio.subprocess.Process) -> None:
        # The guard leads a group of its own; normally nothing is left in it when the guard has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)

    async def _forward_log(self) -> None:
        stream = self._started().stdout
        if stream is None:
            return
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line above the limit was dropped; go on with the next
                continue
            if not raw:
                return
            # Progress bars rewrite their line with carriage returns; the last state is the one to keep.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            if line:
                self._tail.append(line)
                log.info("comfyui.log", instance=self.name, line=line)
