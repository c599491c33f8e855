"""Many clients at once: nothing is lost, nothing runs twice, memory stays bounded, and the server stays awake."""

import asyncio
import contextlib
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from support import workflows
from support.real_comfyui import RealComfyUI
from support.serving import Serving, serving, session
from support.source import REPOSITORY

CLIENTS, JOBS_EACH = 50, 10
JOBS = CLIENTS * JOBS_EACH
MEMORY_MARGIN_BYTES = 100_000_000
PROBE = REPOSITORY / "tests/support/health_probe.py"


class Probe:
    """How long each /health took, seen from another process."""

    def __init__(self) -> None:
        self.took_s: list[float] = []


@contextlib.asynccontextmanager
async def probing(server: Serving) -> AsyncIterator[Probe]:
    """Ask for /health as long as the context is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROBE), server.url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    probe = Probe()
    try:
        yield probe
    finally:
        out, _ = await process.communicate(b"")
    assert process.returncode == 0
    probe.took_s.extend(orjson.loads(out))


async def play_client(server: Serving, number: int) -> list[tuple[str, str]]:
    """Submit all jobs at once, then ask for each until it has ended; return ids and last statuses."""
    async with session(server) as client:

        async def submit(index: int) -> str:
            graph = workflows.colour((number, index, 7), width=8, height=8)
            async with client.post("/run", json={"input": {"workflow": graph}}) as response:
                answer = await response.json()
                assert response.status == 200, answer
                return str(answer["id"])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(submit(index)) for index in range(JOBS_EACH)]
        return [await wait_for(client, task.result()) for task in tasks]


async def wait_for(client: aiohttp.ClientSession, job_id: str) -> tuple[str, str]:
    """Ask for a job as RunPod's clients do, until it has ended."""
    while True:
        async with client.get(f"/status/{job_id}") as response:
            answer = await response.json()
        if answer["status"] not in {"IN_QUEUE", "IN_PROGRESS"}:
            return job_id, f"{answer['status']} {len(answer.get('output', {}).get('images', []))}"
        await asyncio.sleep(0.25)  # how often such clients ask


async def samples(server: Serving, name: str) -> dict[str, float]:
    """Return what the server has counted under `name`, by labels."""
    async with session(server) as client, client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    found = [line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(name + "{")]
    return {labels: float(value) for labels, _, value in found}


async def test_fifty_clients_submit_five_hundred_jobs_at_once(
    comfyui: RealComfyUI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each job ends once and well; memory grows by a bound; the server answers 99 of 100 /health within 50 ms."""
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir), "LOG_LEVEL": "warning"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server:
        process = psutil.Process(server.pid)
        before_bytes = process.memory_info().rss
        async with probing(server) as probe, asyncio.TaskGroup() as group:
            clients = [group.create_task(play_client(server, number)) for number in range(CLIENTS)]
        grown_bytes = process.memory_info().rss - before_bytes
        ended = await samples(server, "comfyworker_jobs_ended_total")
        within = await samples(server, "comfyworker_http_request_seconds_bucket")
    quick = {le: within[f'{{le="{le}",method="GET",route="/health",status="200"}}'] for le in ("0.05", "+Inf")}
    outcomes = [outcome for client in clients for outcome in client.result()]
    took_ms = [seconds * 1000 for seconds in probe.took_s]
    with capsys.disabled():
        print(
            f"\nload: {JOBS} jobs by {CLIENTS} clients: {dict(Counter(status for _, status in outcomes))}; "
            f"memory +{grown_bytes / 1e6:.0f} MB; /health asked {len(took_ms)} times, p50 "
            f"{statistics.median(took_ms):.1f} ms, p99 {statistics.quantiles(took_ms, n=100)[98]:.1f} ms as another "
            f"process sees it; {quick['0.05']:.0f} of {quick['+Inf']:.0f} within 50 ms in the server"
        )
    assert len({job_id for job_id, _ in outcomes}) == JOBS
    assert Counter(status for _, status in outcomes) == {"COMPLETED 1": JOBS}
    assert ended == {'{api="runpod",code="",status="succeeded"}': JOBS}
    assert grown_bytes < MEMORY_MARGIN_BYTES
    # In the server: how long the probe's own process waited for a processor is no figure of ours.
    assert quick["0.05"] >= 0.99 * quick["+Inf"] > 0
