"""How long ComfyUI waits for its next job although there is one."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from itertools import pairwise

from benchmarks.ground import Ground
from benchmarks.report import Row
from benchmarks.worker import Answer, Worker
from comfyworker.jobs import Graph
from support.workflows import text_to_image

ROUNDS = 3
JOBS = 12
BUDGET_MS = 3.0


async def measure_idle_gaps(ground: Ground) -> list[Row]:
    """Give 12 jobs at once, to ComfyUI itself and to the worker in turns, and look at the gaps between executions."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"idle time between {JOBS} waiting jobs (rounds: {rounds})")

    async def measure() -> list[int]:
        answers, gaps = await worker_gaps(ground, ground.worker)
        for answer in answers:
            ground.check(answer.pictures, 1)
        return gaps

    return await compare_gaps(ground, measure, rounds=rounds, name="gaps")


async def compare_gaps(
    ground: Ground, measure: Callable[[], Awaitable[list[int]]], *, rounds: int, name: str, to: str = ""
) -> list[Row]:
    """Let a bare client and `measure` give their jobs in turns; return the median of the gaps, and their sum.

    Args:
        ground: What they run on.
        measure: Gives jobs to a worker, and returns the gaps in milliseconds.
        rounds: How often.
        name: What the rows begin with.
        to: Where the worker's jobs go, as the rows say it.
    """
    floor, ours = [], []
    for _ in range(rounds):
        floor.append(await _floor_gaps(ground))
        ours.append(await measure())
    total = Row(
        name=f"{name}.total",
        what=f"idle over {JOBS} jobs{to}, ComfyUI's own garbage collection (280 ms in 10 s) included",
        unit="ms",
        floor=statistics.median(sum(gaps) for gaps in floor),
        ours=statistics.median(sum(gaps) for gaps in ours),
        rounds=rounds,
    )
    gap = Row(
        name=f"{name}.p50",
        what=f"idle between two of {JOBS} waiting jobs{to}, p50",
        unit="ms",
        floor=_p50(floor),
        ours=_p50(ours),
        budget=BUDGET_MS,
        rule=f"{BUDGET_MS:g} ms",
        rounds=rounds,
    )
    return [gap, total]


def _p50(rounds: list[list[int]]) -> float:
    """Return the median, interpolated within a millisecond: ComfyUI's history knows only whole ones."""
    return max(statistics.median_grouped([gap for gaps in rounds for gap in gaps]), 0.0)


def _graphs() -> list[Graph]:
    return [text_to_image(width=256, height=256) for _ in range(JOBS)]


async def _floor_gaps(ground: Ground) -> list[int]:
    finished = await ground.floor.run_all(_graphs())
    for one in finished:
        ground.check(one.files, 1)
    ground.floor.remove_files()
    return await gaps_between(ground, [one.prompt_id for one in finished])


async def worker_gaps(ground: Ground, worker: Worker) -> tuple[list[Answer], list[int]]:
    """Give jobs to a worker at once; return its answers, and the gaps between executions in milliseconds."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(worker.run(graph), name="job") for graph in _graphs()]
    answers = [task.result() for task in tasks]
    return answers, await gaps_between(ground, [answer.prompt_id for answer in answers])


async def gaps_between(ground: Ground, prompt_ids: list[str]) -> list[int]:
    """Return the milliseconds between the executions of these prompts, in the order in which ComfyUI ran them."""
    executions = sorted([await ground.execution(prompt_id) for prompt_id in prompt_ids], key=lambda one: one.begun_ms)
    return [later.begun_ms - earlier.ended_ms for earlier, later in pairwise(executions)]
