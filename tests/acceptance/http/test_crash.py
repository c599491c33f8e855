"""The server killed again and again while clients submit: what it took is neither lost nor done for ever.

Those that are killed are forks of a process that has imported what they need; the last one is started as a user does.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import workflows
from support.command import environment
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import SERVE, Serving, serving, session
from support.warm_process import warmed

KILLS = 50
FEEDERS = 3
LIVES_S = (0.0, 0.3)
"""How long a server lives after it has taken a job, at least and at most."""
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
AGAIN = (aiohttp.ClientError, ConnectionError)


class Load:
    """Clients that submit jobs and ask for them, whatever becomes of the server."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.seen: dict[str, str] = {}
        """The first final status that a client was told, by job."""
        self._client: aiohttp.ClientSession | None = None
        self._count = 0

    @contextlib.asynccontextmanager
    async def use(self, server: Serving) -> AsyncIterator[None]:
        """Ask this server for as long as the context is open."""
        async with session(server) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def has_taken_one(self) -> None:
        """Return when the server has taken one more job."""
        taken = len(self.accepted)
        await eventually(lambda: len(self.accepted) > taken)

    async def is_over(self) -> bool:
        """Tell whether each job that was taken has a final status."""
        for job_id in self.accepted - self.seen.keys():
            if await self.look(job_id) not in FINAL:
                return False
        return True

    async def feed(self) -> None:
        """Submit one job after the other; one whose answer was cut off is sent again under the same id."""
        while True:
            self._count += 1
            number = self._count
            body = {"input": {"workflow": workflows.noise(8, 8, seed=number), "request_id": f"crash-{number}"}}
            while f"crash-{number}" not in self.accepted:
                answer = await self._ask("POST", "/run", body)
                if answer is not None:
                    assert answer["id"] == f"crash-{number}"
                    self.accepted.add(answer["id"])
            await asyncio.sleep(0.05)  # a client that submits twenty jobs a second

    async def watch(self) -> None:
        """Ask for jobs, in no order, and remember the first final status of each."""
        while True:
            if self.accepted:
                await self.look(random.choice(tuple(self.accepted)))
            await asyncio.sleep(0.01)  # a client that asks a hundred times a second

    async def look(self, job_id: str) -> str | None:
        """Return a job's status; a final one must never have been another."""
        answer = await self._ask("GET", f"/status/{job_id}")
        if answer is None:
            return None
        status = str(answer["status"])
        if status in FINAL:
            assert self.seen.setdefault(job_id, status) == status
            assert status == "COMPLETED" or "worker_restarted" in str(answer), answer
        return status

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """Return the answer; None if the server was killed before it came."""
        if self._client is None:
            await asyncio.sleep(0.01)  # nothing tells when the next server is up
            return None
        try:
            async with self._client.request(method, path, json=body) as response:
                answer: dict[str, Any] = await response.json()
                assert response.status == 200, answer
                return answer
        except AGAIN:
            return None


async def executions(comfyui: RealComfyUI) -> Counter[int]:
    """Return how often ComfyUI has executed each job, by its number."""
    async with aiohttp.ClientSession(comfyui.url) as client, client.get("/history") as response:
        history = await response.json()
    graphs = [entry["prompt"][2] for entry in history.values()]
    return Counter(
        graph["1"]["inputs"]["seed"] for graph in graphs if graph.get("1", {}).get("class_type") == "TestNoise"
    )


async def test_fifty_kills_lose_nothing(
    comfyui: RealComfyUI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every job that was taken has one final status after fifty kills, and ran no more than twice."""
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir), "LOG_LEVEL": "warning"}
    before, load = await executions(comfyui), Load()
    async with warmed(SERVE, env=environment()) as warm, asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.feed()) for _ in range(FEEDERS)] + [group.create_task(load.watch())]
        for _ in range(KILLS):
            life = serving(comfyui.url, tmp_path / "state", environ=environ, warm=warm)
            async with life as server, load.use(server):
                await load.has_taken_one()
                await asyncio.sleep(random.uniform(*LIVES_S))  # killed at any moment
                await server.kill()
        for task in tasks:
            task.cancel()
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, load.use(server):
        await eventually(load.is_over, within_s=60, interval_s=0.05)
        ran = await executions(comfyui) - before
        statuses = Counter([await load.look(job_id) for job_id in load.accepted])
    with capsys.disabled():
        print(
            f"\ncrash: {KILLS} kills, {len(load.accepted)} jobs taken, final: {dict(statuses)}; "
            f"executed: {dict(Counter(ran.values()))} (times: jobs)"
        )
    assert len(load.accepted) > KILLS
    assert sum(statuses.values()) == len(load.accepted)
    assert set(statuses) <= {"COMPLETED", "FAILED"}
    assert max(ran.values()) <= 2
