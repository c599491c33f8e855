"""One side of a measure that needs a process of its own: `python -m benchmarks.child`, the JSON of a `Plan` on stdin.

Prints one JSON object with what it has measured.
"""

import asyncio
import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from benchmarks.floor import BareClient
from benchmarks.resident import peak_bytes, reset_peak, resident_bytes
from benchmarks.worker import worker_on
from comfyworker.delivery.json_stream import iter_json
from comfyworker.jobs import Graph
from support.workflows import noise

RunJob = Callable[[Graph], Awaitable[int]]
"""Runs a job and returns the bytes of its files; lets go of them afterwards."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    module: ClassVar[str] = "benchmarks.child"

    side: Literal["floor", "worker"]
    measure: Literal["memory", "idle"]
    url: str
    base_dir: str
    pictures: int = 1
    """For memory: how many noise pictures the job makes."""
    edge: int = 64
    """For memory: their width and height."""
    idle_s: float = 10.0

    def to_json(self) -> str:
        """Return the plan as this module reads it."""
        return json.dumps(asdict(self))


async def measure(plan: Plan) -> dict[str, float]:
    """Measure what the plan says."""
    async with _side(plan) as run_job:
        await run_job(noise())
        if plan.measure == "idle":
            return await _idle(plan.idle_s)
        return await _memory(run_job, noise(plan.edge, plan.edge, batch_size=plan.pictures))


@contextlib.asynccontextmanager
async def _side(plan: Plan) -> AsyncIterator[RunJob]:
    base_dir = Path(plan.base_dir)
    if plan.side == "floor":
        async with BareClient(plan.url, base_dir / "output") as client:

            async def run_bare(graph: Graph) -> int:
                files = (await client.run(graph)).files
                client.remove_files()
                return sum(len(file) for file in files)

            yield run_bare
        return
    async with worker_on(plan.url, base_dir) as worker:

        async def run_worker(graph: Graph) -> int:
            answer = await worker.run(graph)
            _write(answer.document)
            return sum(_decoded_bytes(picture) for picture in answer.pictures)

        yield run_worker


async def _memory(run_job: RunJob, graph: Graph) -> dict[str, float]:
    gc.collect()
    reset_peak()
    before_bytes = resident_bytes()
    size_bytes = await run_job(graph)
    return {"size_bytes": size_bytes, "added_bytes": peak_bytes() - before_bytes}


async def _idle(idle_s: float) -> dict[str, float]:
    await asyncio.sleep(1)  # what the first job and the start left to do is not idleness
    begun_at, begun_cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(idle_s)
    return {"load": (time.process_time() - begun_cpu) / (time.perf_counter() - begun_at)}


def _write(document: dict[str, JsonValue]) -> None:
    """Write an answer as `comfyworker handle` does."""
    with Path(os.devnull).open("wb") as out:
        out.writelines(iter_json(document))


def _decoded_bytes(text: str) -> int:
    """Return how many bytes a base64 text stands for; never copies the text, which would be in the peak."""
    return len(text) // 4 * 3 - text.count("=", max(len(text) - 2, 0))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Plan(**json.load(sys.stdin))))))
