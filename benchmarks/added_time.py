"""How much longer a warm job takes than ComfyUI's own execution of it."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.ground import Ground
from benchmarks.report import Row
from comfyworker.jobs import Graph
from support.workflows import noise, text_to_image

WARM_UPS = 2
FLOOR_FACTOR, FLOOR_EXTRA_MS = 1.5, 1.0


@dataclass(frozen=True)
class Case:
    """A kind of job. Every graph is new: it has its own seed, so ComfyUI executes it."""

    name: str
    what: str
    rounds: int
    pictures: int
    make: Callable[[], Graph]


CASES = (
    Case("noise_512", "one 512² noise picture", 100, 1, lambda: noise(512, 512)),
    Case("text_to_image", "a tiny text-to-image", 40, 1, lambda: text_to_image(width=256, height=256)),
    Case("noise_4x2048", "four 2048² noise pictures", 20, 4, lambda: noise(2048, 2048, batch_size=4)),
)


async def measure_added_time(ground: Ground) -> list[Row]:
    """Measure each kind of job, the bare client and the worker in turns."""
    return [await _measure(ground, case) for case in CASES]


async def _measure(ground: Ground, case: Case) -> Row:
    rounds = ground.rounds_or(case.rounds)
    ground.say(f"time added to {case.what} (rounds: {rounds})")
    floor_ms, ours_ms, executed_ms = [], [], []
    stages_s: dict[str, list[float]] = defaultdict(list)
    for number in range(-WARM_UPS, rounds):
        added_floor_ms, execution_ms = await _floor_job(ground, case)
        added_ms, timings_s = await _worker_job(ground, case)
        if number >= 0:
            floor_ms.append(added_floor_ms)
            ours_ms.append(added_ms)
            executed_ms.append(execution_ms)
            for stage, spent_s in timings_s.items():
                stages_s[stage].append(spent_s)
    floor = statistics.median(floor_ms)
    details = {f"{stage.removesuffix('_s')}_p50_ms": 1000 * statistics.median(s) for stage, s in stages_s.items()}
    return Row(
        name=f"added.{case.name}",
        what=f"time added to {case.what} ({statistics.median(executed_ms):.0f} ms), p50",
        unit="ms",
        floor=floor,
        ours=statistics.median(ours_ms),
        budget=FLOOR_FACTOR * floor + FLOOR_EXTRA_MS,
        rule=f"{FLOOR_FACTOR:g} times the floor + {FLOOR_EXTRA_MS:g} ms",
        rounds=rounds,
        details={**details, "floor_p90_ms": _p90(floor_ms), "ours_p90_ms": _p90(ours_ms)},
    )


async def _floor_job(ground: Ground, case: Case) -> tuple[float, int]:
    graph = case.make()
    begun_at = time.perf_counter()
    finished = await ground.floor.run(graph)
    wall_ms = 1000 * (time.perf_counter() - begun_at)
    ground.check(finished.files, case.pictures)
    ground.floor.remove_files()
    execution = await ground.execution(finished.prompt_id)
    return wall_ms - execution.duration_ms, execution.duration_ms


async def _worker_job(ground: Ground, case: Case) -> tuple[float, dict[str, float]]:
    graph = case.make()
    begun_at = time.perf_counter()
    answer = await ground.worker.run(graph)
    wall_ms = 1000 * (time.perf_counter() - begun_at)
    ground.check(answer.pictures, case.pictures)
    execution = await ground.execution(answer.prompt_id)
    return wall_ms - execution.duration_ms, answer.timings.model_dump(exclude_none=True)


def _p90(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
