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
from comfyworker.finishing import finish
from comfyworker.redaction import redact
from comfyworker.spawning import spawning

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GUARD = Path(__file__).with_name("_guard.py")
_TAIL_LINES = 30
_LINE_LIMIT_BYTES = 1 << 20
_KILL_AFTER_GRACE_S = 5.0
_LOG_REST_S = 2.0  # for the last lines of a process that has ended


class _GuardProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the guard has ended.

    `Process.wait` of asyncio also waits until nobody holds the guard's output any more (`base_subprocess.py`,
    _call_connection_lost), which a daemon may do for ever when the guard itself was killed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_LINE_LIMIT_BYTES, loop=loop)
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.ended.set()


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
        self._killed_since: str | None = None
        self._guard: tuple[asyncio.SubprocessTransport, _GuardProtocol] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    @property
    def last_lines(self) -> list[str]:
        """The last lines of its log, without directories or secrets."""
        return [redact(line) for line in self._tail]

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        return self._started()[1].ended.is_set()

    async def __aenter__(self) -> Self:
        """Start it.

        Raises:
            OSError: the guard could not be started.
        """
        await self._tasks.__aenter__()
        loop = asyncio.get_running_loop()
        with spawning():
            self._guard = await loop.subprocess_exec(
                lambda: _GuardProtocol(loop),
                sys.executable, "-I", "-S", str(_GUARD), str(self._grace_s), *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._cwd,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is ours to handle: jobs are finished or withdrawn first
            )  # fmt: skip
        self._reader = self._tasks.create_task(self._forward_log(), name=f"log of {self.name}")
        log.info("comfyui.started", instance=self.name, pid=self._guard[0].get_pid())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, if it still runs, and wait for its end, also when cancelled meanwhile, as by a second Ctrl-C."""
        try:
            # A guard that is killed before it has done its work would let daemons get away.
            within_s = self._grace_s + _KILL_AFTER_GRACE_S + _LOG_REST_S + 1.0
            await finish(self.stop(), within_s=within_s, name=f"stopping {self.name}")
        finally:
            if self._reader is not None:
                self._reader.cancel()
            await self._tasks.__aexit__(None, None, None)
            self._started()[0].close()

    async def wait(self) -> int:
        """Wait for its end; return its exit code (128 + signal number when a signal ended it)."""
        transport, protocol = self._started()
        await protocol.ended.wait()
        if self.exit_code is None:
            code = transport.get_returncode() or 0
            self.exit_code = code if code >= 0 else 128 - code
            self._kill_group()
            if self._reader is not None:
                # Only a daemon that got away from a killed guard can hold the log open for longer.
                await asyncio.wait({self._reader}, timeout=_LOG_REST_S)
                self._reader.cancel()
        return self.exit_code

    async def stop(self) -> None:
        """End it and everything it started: as Ctrl-C would, then by force."""
        transport, protocol = self._started()
        if not protocol.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                transport.terminate()
            try:
                async with asyncio.timeout(self._grace_s + _KILL_AFTER_GRACE_S):
                    await protocol.ended.wait()
            except TimeoutError:
                log.warning("comfyui.killed", instance=self.name)
                self._kill_group()
        await self.wait()
        log.info("comfyui.stopped", instance=self.name, exit_code=self.exit_code)

    async def kill(self, since: str) -> None:
        """End it and everything it started at once; `since` says to people what it had not done."""
        self._killed_since = since
        # To the guard it is as if the worker had died.
        stdin = self._started()[0].get_pipe_transport(0)
        if stdin is not None:
            stdin.close()
        await self.wait()

    def crash(self, message: str) -> ComfyUICrashed:
        """Return the error for a job that was on this ComfyUI when it ended."""
        return ComfyUICrashed(
            message,
            hint="The last lines of its log say why; it is started again, so that the next job finds it.",
            details={"exit_code": self.exit_code, "log": list(self.last_lines)},
        )

    def describe_end(self) -> str:
        """Return how it ended, for people: `exit code 1`, `signal SIGKILL`."""
        if self._killed_since is not None:
            return f"killed, since it {self._killed_since}"
        code = self.exit_code or 0
        if code > 128:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def _started(self) -> tuple[asyncio.SubprocessTransport, _GuardProtocol]:
        if self._guard is None:
            message = "the process has not been started"
            raise RuntimeError(message)
        return self._guard

    def _kill_group(self) -> None:
        # The guard leads a group of its own; normally nothing is left in it when the guard has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._started()[0].get_pid(), signal.SIGKILL)

    async def _forward_log(self) -> None:
        stream = self._started()[1].stdout
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
