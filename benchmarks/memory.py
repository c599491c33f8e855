"""How much memory an answer with large files inside takes."""

import statistics
from collections.abc import Sequence
from typing import Literal

from benchmarks.child import Plan
from benchmarks.ground import Ground
from benchmarks.processes import run_child
from benchmarks.report import Row

ROUNDS = 1  # the same to a few MB each time, and ComfyUI is slow at writing such files
CASES = (("files", 20, 2048), ("one_file", 1, 8960))
"""Name, pictures, their edge: 240 MB or so each, since noise does not compress."""
BUDGET = 1.7
MB = 1e6


async def measure_memory(ground: Ground) -> list[Row]:
    """Measure the peak while one job of 240 MB goes through, each time in a fresh process."""
    return [await _measure(ground, *case) for case in CASES]


async def _measure(ground: Ground, name: str, pictures: int, edge: int) -> Row:
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"memory added by noise pictures, {pictures} of {edge}² (rounds: {rounds})")
    floor, ours = [], []
    for _ in range(rounds):
        floor.append(await run_child(_plan(ground, "floor", pictures, edge)))
        ours.append(await run_child(_plan(ground, "worker", pictures, edge)))
    size_mb = ours[0]["size_bytes"] / MB
    return Row(
        name=f"memory.{name}",
        what=f"memory added by {size_mb:.0f} MB of files inline ({pictures} of {edge}²), peak",
        unit="of their size",
        floor=_ratio(floor),
        ours=_ratio(ours),
        budget=BUDGET,
        rule=f"{BUDGET:g} of their size",
        rounds=rounds,
        details={"size_mb": size_mb, "floor_mb": _ratio(floor) * size_mb, "ours_mb": _ratio(ours) * size_mb},
    )


def _plan(ground: Ground, side: Literal["floor", "worker"], pictures: int, edge: int) -> Plan:
    return Plan(side, "memory", ground.comfyui.url, str(ground.comfyui.base_dir), pictures=pictures, edge=edge)


def _ratio(figures: Sequence[dict[str, float]]) -> float:
    return statistics.median(one["added_bytes"] / one["size_bytes"] for one in figures)
