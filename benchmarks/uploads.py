"""How much memory and time a large artifact takes on its way into object storage."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.processes import run_child
from benchmarks.report import Row
from benchmarks.uploader import Side

MB = 1_000_000
SIZES_MB = (64, 1000)
ROUNDS = {64: 1, 1000: 3}
SIDES: tuple[Side, ...] = ("worker", "signed_put", "bare_put", "obstore")
ONCE: tuple[Side, ...] = ("bare_put", "obstore")
"""What is only shown, and what was the slowest by far each time that it was measured."""
SIGNED: dict[Side, str] = {"signed_put": "one signed PUT by aiohttp", "obstore": "obstore's own upload"}
MEMORY_BUDGET_MB = 32.0
RATE_BUDGET = 0.9
BLOCK_BYTES = 1024 * 1024

Figures = dict[Side, list[dict[str, float]]]


async def measure_uploads(ground: Ground) -> list[Row]:
    """Upload a file of each size by the worker and by plain clients in turns, each time in a fresh process."""
    rows = []
    for size_mb in SIZES_MB:
        rounds = ground.rounds_or(ROUNDS[size_mb])
        ground.say(f"upload of {size_mb} MB (rounds: {rounds})")
        figures = await _measure(ground, size_mb, rounds)
        rows.append(_memory(size_mb, figures))
        if size_mb == max(SIZES_MB):  # a smaller one is over before the connections are warm
            rows += _rates(size_mb, figures)
    return rows


async def _measure(ground: Ground, size_mb: int, rounds: int) -> Figures:
    bucket = await ground.bucket()
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="comfyworker-bench-") as folder:
        path = Path(folder) / "film.mp4"
        _write(path, size_mb * MB)
        for number in range(rounds):
            for side in SIDES:
                if number == 0 or side not in ONCE:
                    figures[side].append(await run_child(bucket.upload_plan(side, path)))
    return figures


def _write(path: Path, size_bytes: int) -> None:
    block = os.urandom(BLOCK_BYTES)
    with path.open("wb") as file:
        for start in range(0, size_bytes, BLOCK_BYTES):
            file.write(block[: size_bytes - start])


def _memory(size_mb: int, figures: Figures) -> Row:
    added_mb = {side: max(one["added_bytes"] for one in figures[side]) / MB for side in SIDES}
    return Row(
        name=f"uploads.memory_{size_mb}",
        what=f"memory added by {size_mb} MB to object storage (floor: one PUT by aiohttp), peak",
        unit="MB",
        floor=added_mb["bare_put"],
        ours=added_mb["worker"],
        budget=MEMORY_BUDGET_MB,
        rule=f"{MEMORY_BUDGET_MB:g} MB, whatever the size",
        rounds=len(figures["worker"]),
        details={f"{side}_mb": added for side, added in added_mb.items()},
    )


def _rates(size_mb: int, figures: Figures) -> list[Row]:
    """Return the throughput beside that of clients which sign what they send, and of one which does not."""
    rates = {side: size_mb / min(one["duration_s"] for one in figures[side]) for side in SIDES}
    processor_s = {f"{side}_processor_s": min(one["processor_s"] for one in figures[side]) for side in SIDES}
    fastest = max(SIGNED, key=rates.__getitem__)
    what = f"throughput of {size_mb} MB to object storage"
    bare = Row(
        name=f"uploads.rate_{size_mb}_bare",
        what=f"{what} (floor: one PUT that signs no content), best",
        unit="MB/s",
        floor=rates["bare_put"],
        ours=rates["worker"],
        rounds=len(figures["worker"]),
    )
    signed = Row(
        name=f"uploads.rate_{size_mb}",
        what=f"{what} (floor: {SIGNED[fastest]}), best",
        unit="MB/s",
        floor=rates[fastest],
        ours=rates["worker"],
        budget=RATE_BUDGET * rates[fastest],
        rule=f"at least {RATE_BUDGET:g} times the floor",
        is_more_better=True,
        rounds=len(figures["worker"]),
        details={**{f"{side}_mb_per_s": rate for side, rate in rates.items()}, **processor_s},
    )
    return [signed, bare]
