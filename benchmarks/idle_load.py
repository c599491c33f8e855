"""How much processor time a worker takes that has nothing to do."""

import asyncio
import statistics

from benchmarks.child import Plan
from benchmarks.ground import Ground
from benchmarks.processes import run_child
from benchmarks.report import Row

ROUNDS = 1
IDLE_S = 10.0
BUDGET_PERCENT = 2.0


async def measure_idle_load(ground: Ground) -> list[Row]:
    """Let a bare client and a worker idle beside each other, each in a process of its own, after one job."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"processor time of an idle worker, {IDLE_S:g} s (rounds: {rounds})")
    url, base_dir = ground.comfyui.url, str(ground.comfyui.base_dir)
    floor, ours = [], []
    for _ in range(rounds):
        bare, worker = await asyncio.gather(
            run_child(Plan("floor", "idle", url, base_dir, idle_s=IDLE_S)),
            run_child(Plan("worker", "idle", url, base_dir, idle_s=IDLE_S)),
        )
        floor.append(100 * bare["load"])
        ours.append(100 * worker["load"])
    return [
        Row(
            name="idle.load",
            what="processor time of an idle worker",
            unit="% of a core",
            floor=statistics.median(floor),
            ours=statistics.median(ours),
            budget=BUDGET_PERCENT,
            rule=f"{BUDGET_PERCENT:g} %",
            rounds=rounds,
        )
    ]
