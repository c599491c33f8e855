"""Fifty clients that give a server ten jobs each at once, and a process that asks for /health meanwhile."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import orjson
import psutil

from support import workflows
from support.serving import Serving, session
from support.source import REPOSITORY

CLIENTS, JOBS_EACH = 50, 10
JOBS = CLIENTS * JOBS_EACH
_PROBE = REPOSITORY / "tests/support/health_probe.py"


@dataclass(frozen=True)
class Outcome:
    """How one job ended, as its client sees it."""

    job_id: str
    status: str
    picture_count: int


@dataclass
class Load:
    """What a load was, and what came of it."""

    outcomes: list[Outcome]
    grown_bytes: int
    """By how much the server's resident memory is larger than before."""
    health_s: list[float] = field(default_factory=list)
    """How long each /health took, seen from another process; each was answered with 200."""


async def play(server: Serving) -> Load:
    """Play all clients at once on a server that has no job; return when all jobs have ended."""
    process = psutil.Process(server.pid)
    before_bytes = process.memory_info().rss
    health_s: list[float] = []
    async with probing(server, health_s), asyncio.TaskGroup() as group:
        clients = [group.create_task(_play_client(server, number), name="client") for number in range(CLIENTS)]
    grown_bytes = process.memory_info().rss - before_bytes
    return Load([outcome for client in clients for outcome in client.result()], grown_bytes, health_s)


@contextlib.asynccontextmanager
async def probing(server: Serving, took_s: list[float]) -> AsyncIterator[None]:
    """Ask for /health as long as the context is open; add how long each took at its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_PROBE), server.url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
    finally:
        out, _ = await process.communicate(b"")
    assert process.returncode == 0
    took_s.extend(orjson.loads(out))


async def _play_client(server: Serving, number: int) -> list[Outcome]:
    """Submit all jobs at once, then ask for each until it has ended."""
    async with session(server) as client:

        async def submit(index: int) -> str:
            graph = workflows.colour((number, index, 7), width=8, height=8)
            async with client.post("/run", json={"input": {"workflow": graph}}) as response:
                answer = await response.json()
                assert response.status == 200, answer
                return str(answer["id"])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(submit(index), name="submission") for index in range(JOBS_EACH)]
        return [await _wait_for(client, task.result()) for task in tasks]


async def _wait_for(client: aiohttp.ClientSession, job_id: str) -> Outcome:
    """Ask for a job as RunPod's clients do, until it has ended."""
    while True:
        async with client.get(f"/status/{job_id}") as response:
            answer = await response.json()
        if answer["status"] not in {"IN_QUEUE", "IN_PROGRESS"}:
            return Outcome(job_id, answer["status"], len(answer.get("output", {}).get("images", [])))
        await asyncio.sleep(0.25)  # how often such clients ask
