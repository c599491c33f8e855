"""How long ComfyUI waits between jobs that come through RunPod's SDK, and what its loop takes while there are none."""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.ground import Ground
from benchmarks.idle_gaps import gaps_between
from benchmarks.report import Row
from comfyworker.jobs import Graph
from support.eventually import eventually
from support.runpod_platform import RunPodPlatform
from support.runpod_worker import RunPodWorker, runpod_worker
from support.workflows import wait

ROUNDS = 5
JOBS = 10
LENGTHS_MS = (50, 500)
ROUND_TRIP_S = 0.02
BUDGET_MS = 50.0
IDLE_S = 10.0
IDLE_BUDGET_PERCENT = 2.0


class _RunPod(NamedTuple):
    platform: RunPodPlatform
    worker: RunPodWorker


async def measure_runpod_loop(ground: Ground) -> list[Row]:
    """Give ten jobs at once, to ComfyUI itself and to RunPod's queue in turns; then let the worker idle."""
    async with _open(ground) as runpod:
        rows = [await _measure_gaps(ground, runpod, length_ms) for length_ms in LENGTHS_MS]
        return [*rows, await _measure_idle(ground, runpod)]


@contextlib.asynccontextmanager
async def _open(ground: Ground) -> AsyncIterator[_RunPod]:
    environ = {"COMFY_API_URL": ground.comfyui.url, "COMFYUI_BASE_DIR": str(ground.comfyui.base_dir)}
    with tempfile.TemporaryDirectory(prefix="comfyworker-runpod-", ignore_cleanup_errors=True) as folder:
        async with (
            RunPodPlatform(round_trip_s=ROUND_TRIP_S) as platform,
            runpod_worker(platform, Path(folder), environ) as worker,
        ):
            await worker.logged("runpod.taking_jobs")
            yield _RunPod(platform, worker)


async def _measure_gaps(ground: Ground, runpod: _RunPod, length_ms: int) -> Row:
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"idle time between {JOBS} jobs of {length_ms} ms in RunPod's queue (rounds: {rounds})")
    floor, ours = [], []
    for _ in range(rounds):
        finished = await ground.floor.run_all(_graphs(length_ms))
        ground.floor.remove_files()
        floor.append(sum(await gaps_between(ground, [one.prompt_id for one in finished])))
        ours.append(sum(await _queued_gaps(ground, runpod, length_ms)))
    median = statistics.median(floor)
    return Row(
        name=f"runpod.idle_{length_ms}",
        what=f"idle over {JOBS} jobs of {length_ms} ms from RunPod's queue, by its SDK, "
        f"{1000 * ROUND_TRIP_S:g} ms away",
        unit="ms",
        floor=median,
        ours=statistics.median(ours),
        budget=median + BUDGET_MS,
        rule=f"the floor + {BUDGET_MS:g} ms",
        rounds=rounds,
        details={"most": max(ours), "least": min(ours)},
    )


def _graphs(length_ms: int) -> list[Graph]:
    return [wait(steps=1, seconds_per_step=length_ms / 1000) for _ in range(JOBS)]


async def _queued_gaps(ground: Ground, runpod: _RunPod, length_ms: int) -> list[int]:
    await runpod.platform.until(lambda: runpod.platform.polls)  # as an idle worker waits for work
    tickets = await runpod.platform.submit_all(_graphs(length_ms))
    await runpod.platform.wait(*tickets)
    wanted = {ticket.id for ticket in tickets}
    for ticket in tickets:
        if ticket.error is not None:
            raise RuntimeError(ticket.error)

    def prompt_ids() -> list[str]:
        ended = [event for event in runpod.worker.events("job.ended") if event["job_id"] in wanted]
        return [event["prompt_id"] for event in ended] if len(ended) == JOBS else []

    return await gaps_between(ground, await eventually(prompt_ids))


async def _measure_idle(ground: Ground, runpod: _RunPod) -> Row:
    ground.say(f"processor time of an idle worker in RunPod's loop, {IDLE_S:g} s")
    before_s, begun_at = _processor_s(runpod.worker.pid), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    spent_s = _processor_s(runpod.worker.pid) - before_s
    return Row(
        name="runpod.idle_load",
        what="processor time of an idle worker, RunPod's loop and heartbeat included",
        unit="% of a core",
        floor=None,
        ours=100 * spent_s / (time.perf_counter() - begun_at),
        budget=IDLE_BUDGET_PERCENT,
        rule=f"{IDLE_BUDGET_PERCENT:g} %",
        rounds=1,
    )


def _processor_s(pid: int) -> float:
    """Return the processor time of a process and of those that it has started, in seconds."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
            if pid in {int(folder.name), int(fields[1])}:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
