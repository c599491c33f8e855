"""How fast this worker is: the benchmark at its start, as Vast.ai's autoscaler reckons by it.

One run that is not measured, then eight one after the other; the best one counts, in workload a second. Where there are
several ComfyUIs, a run is one job on each of them at once: that is what the worker can do. The jobs go the way of all
jobs, only that their files are not delivered, and go with the job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.finishing import in_thread
from comfyworker.hosts.vast.benchmark_workflow import Benchmark, find_benchmark
from comfyworker.hosts.vast.scores import Scores, score_key
from comfyworker.jobs import Artifact, JobError
from comfyworker.pipeline import Pipeline
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FILE = "vast/benchmark.json"


class BenchmarkFailed(Exception):
    """A run of the benchmark came to nothing."""

    def __init__(self, source: str, error: JobError) -> None:
        """Keep why."""
        super().__init__(f"the benchmark ({source}) failed: {error.message}")
        self.may_pass = error.retryable


@dataclass(frozen=True)
class Rating:
    """What is measured, and with what."""

    settings: Settings
    pipeline: Pipeline
    cwd: Path
    clock: Callable[[], float] = field(default=time.perf_counter)
    """Seconds."""

    async def rate(self) -> float:
        """Return this worker's score in workload a second: the one that is known for it, or a new one.

        Raises:
            BenchmarkFailed: a run came to nothing.
            ComfyUIUnavailable: ComfyUI has gone.
            InvalidSettings: the benchmark's file is none.
        """
        ready = await self.pipeline.pool.any_ready()
        benchmark = await find_benchmark(self.settings, self.pipeline, await ready.node_classes(), cwd=self.cwd)
        scores = Scores(self.settings.state.path / _FILE)
        key = score_key(benchmark.body, [await each.client.system_stats() for each in _ready(self.pipeline.pool)])
        known = await in_thread(lambda: scores.find(key))
        if known is not None:
            log.info("benchmark.known", source=benchmark.source, max_perf=round(known, 3))
            return known
        score = await self._measure(benchmark, at_once=len(_ready(self.pipeline.pool)) or 1)
        await in_thread(lambda: scores.keep(key, score))
        return score

    async def _measure(self, benchmark: Benchmark, *, at_once: int) -> float:
        if not benchmark.changes:
            log.warning(
                "benchmark.always_the_same",
                source=benchmark.source,
                advice='no seed is drawn in it, so ComfyUI answers from its cache: write "__RANDOM_INT__" somewhere',
            )
        await self._run(benchmark, at_once=at_once)
        seconds = [await self._run(benchmark, at_once=at_once) for _ in range(self.settings.vast.benchmark_runs)]
        score = best_score(benchmark.workload * at_once, seconds)
        log.info(
            "benchmark.measured",
            source=benchmark.source,
            max_perf=round(score, 3),
            workload=benchmark.workload,
            at_once=at_once,
            runs_s=[round(one, 3) for one in seconds],
        )
        return score

    async def _run(self, benchmark: Benchmark, *, at_once: int) -> float:
        """Run once; return the seconds that it took."""
        begun_at = self.clock()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self.pipeline.run(benchmark.make_request(), delivery=_Nowhere()), name=f"benchmark {number}"
                )
                for number in range(at_once)
            ]
        took_s = self.clock() - begun_at
        error = next((task.result().error for task in tasks if task.result().error is not None), None)
        if error is not None:
            raise BenchmarkFailed(benchmark.source, error)
        return took_s


def best_score(workload: float, seconds: Sequence[float]) -> float:
    """Return the workload a second of the fastest run."""
    return max(workload / max(one, 1e-6) for one in seconds)


def _ready(pool: ComfyUIPool) -> list[ComfyUIInstance]:
    return [instance for instance in pool.instances if instance.is_ready]


class _Nowhere:
    """A delivery that leaves every file where it is, to be removed with the job's others."""

    keeps_outputs = False

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        return tuple(artifacts)
