"""`comfyworker serve` as a real process, on a free port, with a state folder of its own."""

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from support.command import COMMAND, environment
from support.eventually import eventually
from support.warm_process import Forked, Program, WarmProcess

SERVE = Program("comfyworker.cli:main", ("comfyworker.cli.serve", "comfyworker.hosts.http.server"))
"""The command, and what it loads to serve."""
_UP = re.compile(r"serves (http://\S+)")
_UP_WITHIN_S = 180.0
_STOP_WITHIN_S = 180.0


class Serving:
    """A server that runs, or ran."""

    def __init__(
        self, process: asyncio.subprocess.Process | Forked, url: str, lines: list[str], log_path: Path
    ) -> None:
        """Know a process that has said where it serves."""
        self.process = process
        self.url = url
        self.stdout_lines = lines
        self.log_path = log_path

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """Return the events that it has logged; lines that are no events are left out."""
        lines = self.log_path.read_bytes().splitlines()
        return [orjson.loads(line) for line in lines if line.startswith(b"{")]

    def log_text(self) -> str:
        """Return all that it wrote to stderr."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    async def kill(self) -> None:
        """End it as a crash does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(_STOP_WITHIN_S):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(
    comfyui_url: str | None,
    state_dir: Path,
    *,
    environ: Mapping[str, str] | None = None,
    command: tuple[str, ...] = ("serve", "--port", "0"),
    args: tuple[str, ...] = (),
    warm: WarmProcess | None = None,
) -> AsyncIterator[Serving]:
    """Start a server on a free port; it is stopped when the context ends.

    Args:
        comfyui_url: The ComfyUI that it uses; None: what `environ` leads to.
        state_dir: Its STATE_DIR. A second server on the same one goes on where the first one ended.
        environ: More settings.
        command: What starts it.
        args: More of the command line.
        warm: A process that has imported SERVE, of which the server is a fork; None: it is started as a user does.
    """
    variables = {"STATE_DIR": str(state_dir), "LOG_FORMAT": "json", **(environ or {})}
    if comfyui_url is not None:
        variables["COMFY_API_URL"] = comfyui_url
    log_path = _new_log(state_dir)
    with log_path.open("wb") as log:
        env = environment() | variables
        process: asyncio.subprocess.Process | Forked
        if warm is None:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *command, *args, env=env, cwd=state_dir, stdout=subprocess.PIPE, stderr=log
            )
        else:
            process = await warm.start([*command, *args], env=env, cwd=state_dir, stderr=log)
    try:
        url, lines = await _until_up(process, log_path)
        server = Serving(process, url, lines, log_path)
        yield server
        await server.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _new_log(state_dir: Path) -> Path:
    """Return a file beside the state folder, for the next server on it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    count = len(list(state_dir.parent.glob(f"{state_dir.name}-*.log")))
    return state_dir.parent / f"{state_dir.name}-{count}.log"


async def _until_up(process: asyncio.subprocess.Process | Forked, log_path: Path) -> tuple[str, list[str]]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(_UP_WITHIN_S):
        while line := (await process.stdout.readline()).decode():
            lines.append(line.rstrip("\n"))
            if line.startswith("# All there is"):
                found = _UP.search("\n".join(lines))
                assert found is not None, lines
                return found[1], lines
    code = await process.wait()
    raise AssertionError(f"the server ended with {code}:\n{_tail(log_path)}")


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-4000:]


async def ready(server: Serving) -> None:
    """Wait until the server's ComfyUI takes jobs: before that, no workflow can be found wrong."""
    async with session(server) as client:

        async def is_ready() -> bool:
            async with client.get("/ready") as answer:
                return answer.status == HTTPStatus.OK

        await eventually(is_ready, within_s=_UP_WITHIN_S)


def session(server: Serving, *, key: str | None = None) -> aiohttp.ClientSession:
    """Return a client of the server, to be closed by who opens it."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return aiohttp.ClientSession(server.url, headers=headers)


async def post(client: aiohttp.ClientSession, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """POST JSON; return the answer's code and body."""
    async with client.post(path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def get(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    """GET; return the answer's code and body."""
    async with client.get(path) as answer:
        return answer.status, await answer.json()
