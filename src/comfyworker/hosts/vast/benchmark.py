"""How fast this worker is: the benchmark at its start, as Vast.ai's autoscaler reckons by it.

One run that is not measured, then eight one after the other; the best one counts, in workload a second. Where there are
several ComfyUIs, those that are still booting are waited for, and a run is one job on each of them at once: that is
what the worker can do. The jobs go the way of all jobs, only that their files are not delivered, and go with the job.

Where nothing changes from run to run, ComfyUI answers all but the first one from its cache. Then that first one counts,
although it loads the models: a score that is too low is mended by Vast's own figures, while one that is a hundred times
too high has requests wait here that others could serve.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.finishing import in_thread
from comfyworker.hosts.vast.benchmark_workflow import SEEDS, Benchmark, find_benchmark
from comfyworker.hosts.vast.scores import Scores, score_key
from comfyworker.jobs import Artifact, JobError
from comfyworker.settings import Settings

if TYPE_CHECKING:  # it is loaded while ComfyUI starts
    from comfyworker.pipeline import Pipeline

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FILE = "vast/benchmark.json"
_OTHERS_WITHIN_S = 60.0


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
        ready = await all_up(self.pipeline.pool, within_s=_OTHERS_WITHIN_S)
        benchmark = await find_benchmark(self.settings, self.pipeline, await ready.node_classes(), cwd=self.cwd)
        scores = Scores(self.settings.state.path / _FILE)
        rated = _ready(self.pipeline.pool)
        key = score_key(benchmark.body, [await each.client.system_stats() for each in rated])
        known = await in_thread(lambda: scores.find(key))
        if known is not None:
            log.info("benchmark.known", source=benchmark.source, max_perf=round(known, 3))
            return known
        score = await self._measure(benchmark, at_once=len(rated) or 1)
        await in_thread(lambda: scores.keep(key, score))
        return score

    async def _measure(self, benchmark: Benchmark, *, at_once: int) -> float:
        warm_up_s, changes = await self._run(benchmark, at_once=at_once)
        if benchmark.changes or changes:
            runs = range(self.settings.vast.benchmark_runs)
            seconds = [(await self._run(benchmark, at_once=at_once))[0] for _ in runs]
        else:
            log.warning(
                "benchmark.always_the_same",
                source=benchmark.source,
                advice="no seed is drawn in it, so ComfyUI would answer further runs from its cache, and the first one "
                'counts: write "__RANDOM_INT__" where a seed stands',
            )
            seconds = [warm_up_s]
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

    async def _run(self, benchmark: Benchmark, *, at_once: int) -> tuple[float, bool]:
        """Run once; return the seconds that it took, and whether anything was drawn for it."""
        requests = [benchmark.make_request() for _ in range(at_once)]  # not within the group, which wraps errors
        begun_at = self.clock()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.pipeline.run(request, delivery=_Nowhere()), name=f"benchmark {number}")
                for number, request in enumerate(requests)
            ]
        took_s = self.clock() - begun_at
        error = next((task.result().error for task in tasks if task.result().error is not None), None)
        if error is not None:
            raise BenchmarkFailed(benchmark.source, error)
        return took_s, any(_is_seed(name) for task in tasks for name in task.result().used)


async def all_up(pool: ComfyUIPool, *, within_s: float) -> ComfyUIInstance:
    """Return a ComfyUI that answers, once all of them do that are likely to.

    They are started together, so the others are up soon after the first: a worker that is rated by that alone would be
    half, or an eighth, of what it is.

    Args:
        pool: The ComfyUIs.
        within_s: Seconds that the others have after the first.

    Raises:
        ComfyUIUnavailable: none is there, and none is likely to come soon.
    """
    await pool.any_ready()
    try:
        async with asyncio.timeout(within_s):
            while not all(instance.is_ready or instance.failure for instance in pool.instances):
                await pool.wait_changed()
    except TimeoutError:
        log.warning("benchmark.not_all_up", up=len(_ready(pool)), of=len(pool.instances))
    return await pool.any_ready()


def best_score(workload: float, seconds: Sequence[float]) -> float:
    """Return the workload a second of the fastest run."""
    return max(workload / max(one, 1e-6) for one in seconds)


def _is_seed(name: str) -> bool:
    """Tell whether what a run used is a seed: of the whole request (`seed`) or of a node (`3.seed`)."""
    return name.rpartition(".")[2] in SEEDS


def _ready(pool: ComfyUIPool) -> list[ComfyUIInstance]:
    return [instance for instance in pool.instances if instance.is_ready]


class _Nowhere:
    """A delivery that leaves every file where it is, to be removed with the job's others."""

    keeps_outputs = False

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        return tuple(artifacts)
