"""Vast's SDK as its users have it: its client and its worker, in an environment of their own."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from support.eventually import eventually
from support.ports import free_port
from support.source import REPOSITORY
from support.vast_platform import API_KEY, ENDPOINT, VastPlatform
from support.vast_worker import vast_variables

INSTALL = REPOSITORY / "workspace/vastai"
SCRIPTS = REPOSITORY / "tests/clients"
_LONGEST_LINE = 2**28
_END_WITHIN_S = 60.0


def sdk_python() -> Path:
    """Return the interpreter that has Vast's SDK.

    Raises:
        RuntimeError: There is none.
    """
    python = INSTALL / ".venv/bin/python"
    if not python.exists():
        message = f"these tests need Vast's SDK; {INSTALL} has none. `make vastai` makes it."
        raise RuntimeError(message)
    return python


class VastClient:
    """Vast's client library in a process of its own; its calls run side by side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Speak to a process of `tests/clients/vast_calls.py`."""
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(self, name: str, **arguments: Any) -> Any:
        """Return what a call returned.

        Raises:
            AssertionError: It raised.
        """
        came = await self.begin(name, **arguments)[1]
        assert "raised" not in came, came
        return came["returned"]

    async def raised_by(self, name: str, **arguments: Any) -> list[str]:
        """Return the class and message of what a call raised."""
        came = await self.begin(name, **arguments)[1]
        assert "raised" in came, came
        raised = came["raised"]
        assert isinstance(raised, list)
        return raised

    def begin(self, name: str, **arguments: Any) -> tuple[int, asyncio.Future[dict[str, Any]]]:
        """Begin a call; return its id, to be canceled by, and what will come of it."""
        call_id = next(self._ids)
        return call_id, self._send(call_id, {"id": call_id, "call": name, **arguments})

    async def introduce(self, platform: VastPlatform) -> None:
        """Tell it whose client it is."""
        await self._send(0, {"platform": platform.url, "key": API_KEY, "endpoint": ENDPOINT})

    async def listen(self) -> None:
        """Hand on what it writes, until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            came = orjson.loads(line)
            self._answers.pop(came["id"]).set_result(came)
        for answer in self._answers.values():
            answer.set_exception(AssertionError("the client has ended"))

    def _send(self, call_id: int, told: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        assert self._process.stdin is not None
        answer = asyncio.get_running_loop().create_future()
        self._answers[call_id] = answer
        self._process.stdin.write(orjson.dumps(told) + b"\n")
        return answer


@contextlib.asynccontextmanager
async def vast_client(platform: VastPlatform, home: Path) -> AsyncIterator[VastClient]:
    """Start Vast's client library for the endpoint of `platform`; `home` is its home directory."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    with (home / "client.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            str(sdk_python()),
            str(SCRIPTS / "vast_calls.py"),
            env={**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            limit=_LONGEST_LINE,
        )
    client = VastClient(process)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.listen(), name="read what Vast's client writes")
            await client.introduce(platform)
            yield client
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_WITHIN_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()  # it waits for calls that nobody answers any more
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None  # A test that fails shows its own words.
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def reference_worker(
    platform: VastPlatform, model_server_url: str, home: Path, *, benchmark: Any
) -> AsyncIterator[str]:
    """Start the SDK's worker before a model server; go on when it has reported to be ready. Yields its URL.

    Args:
        platform: Whom it reports to.
        model_server_url: Where it sends its requests.
        home: Its working directory.
        benchmark: The workflow that it is rated by.
    """
    payload = json.dumps({"input": {"workflow_json": benchmark}, "expected_time": 46.0})
    script = str(SCRIPTS / "vast_reference_worker.py")
    command = (str(sdk_python()), script, str(urlsplit(model_server_url).port), payload)
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    variables = {
        **kept,
        **vast_variables(platform, free_port()),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WORKER_HTTP_PORT": str(free_port()),
    }
    log_path = home / "reference.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env=variables, cwd=home, stdout=log, stderr=log)

    def is_ready() -> bool:
        assert process.returncode is None, f"it has ended with {process.returncode}"
        return platform.is_ready()

    try:
        try:
            await eventually(is_ready, within_s=60)
        except AssertionError as error:
            text = log_path.read_text(encoding="utf-8", errors="replace")[-4000:]
            message = f"Vast's own worker does not become ready: {error}; its log:\n{text}"
            raise AssertionError(message) from error
        yield str(platform.statuses[-1]["url"])
    finally:
        if process.returncode is None:
            process.kill()  # On SIGTERM it leaves at once as well; it has no last words.
        await process.wait()
