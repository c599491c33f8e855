"""How fast pictures are made into another format, and what the event loop feels of it."""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ground import Ground
from benchmarks.report import Row
from comfyworker.delivery.pictures import PictureShaper, Shape
from comfyworker.jobs import Artifact, PictureFormat
from support.artifacts import file_artifact

ROUNDS = 10
PICTURES, EDGE = 4, 1024
SHARE_LOST = 1.2
STALL_BUDGET_MS = 10.0
TICK_S = 0.001


@dataclass
class Lateness:
    """By how much the event loop was late at worst."""

    worst_s: float = 0.0


async def measure_conversion(ground: Ground) -> list[Row]:
    """Make four pictures into WebP one after the other, and all at once, in turns."""
    rounds, at_once = ground.rounds_or(ROUNDS), min(PICTURES, len(os.sched_getaffinity(0)))
    ground.say(f"conversion of {PICTURES} pictures of {EDGE}² (rounds: {rounds})")
    in_turn_ms, at_once_ms, floor_late_ms, late_ms = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="comfyworker-bench-") as folder:
        artifacts = [_picture(Path(folder) / f"{number}.png", number) for number in range(PICTURES)]
        for number in range(-1, rounds):
            spent_ms, _ = await _convert(PictureShaper(at_once=1), artifacts, Path(folder))
            both_ms, worst_ms = await _convert(PictureShaper(), artifacts, Path(folder))
            quiet_ms = await _quiet(both_ms / 1000)
            if number >= 0:
                in_turn_ms.append(spent_ms)
                at_once_ms.append(both_ms)
                late_ms.append(worst_ms)
                floor_late_ms.append(quiet_ms)
    in_turn = min(in_turn_ms)  # what else the machine does makes it slower only
    return [
        Row(
            name="conversion.webp",
            what=f"{PICTURES} PNGs of {EDGE}² made into WebP (floor: one after the other), best",
            unit="ms",
            floor=in_turn,
            ours=min(at_once_ms),
            budget=SHARE_LOST * in_turn / at_once,
            rule=f"{SHARE_LOST:g} times the floor divided by {at_once} cores",
            rounds=rounds,
        ),
        Row(
            name="conversion.stall",
            what="event loop at worst late meanwhile (floor: while nothing is converted), p50",
            unit="ms",
            floor=statistics.median(floor_late_ms),
            ours=statistics.median(late_ms),
            budget=STALL_BUDGET_MS,
            rule=f"{STALL_BUDGET_MS:g} ms",
            rounds=rounds,
            details={"worst_ms": max(late_ms)},
        ),
    ]


def _picture(path: Path, seed: int) -> Artifact:
    """Write a picture with smooth places, edges and grain, as a model's are."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((EDGE, EDGE), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.normal(0, 6, (EDGE, EDGE, 1)).astype(np.int16)
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path)
    return file_artifact(path)


async def _convert(shaper: PictureShaper, artifacts: list[Artifact], folder: Path) -> tuple[float, float]:
    """Return how many milliseconds it took, and by how many the loop was late at worst."""
    with tempfile.TemporaryDirectory(dir=folder) as spool:
        async with _watched() as lateness:
            begun_at = time.perf_counter()
            shaped = await shaper.shape(artifacts, Shape(format=PictureFormat.WEBP), spool=Path(spool))
            spent_s = time.perf_counter() - begun_at
    if shaped.warnings or [one.content_type for one in shaped.artifacts] != ["image/webp"] * len(artifacts):
        message = f"the pictures were not converted: {shaped.warnings}"
        raise RuntimeError(message)
    return 1000 * spent_s, 1000 * lateness.worst_s


async def _quiet(duration_s: float) -> float:
    async with _watched() as lateness:
        await asyncio.sleep(duration_s)
    return 1000 * lateness.worst_s


@contextlib.asynccontextmanager
async def _watched() -> AsyncIterator[Lateness]:
    """Look every millisecond how late the event loop is."""
    lateness = Lateness()

    async def watch() -> None:
        while True:
            due_at = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            lateness.worst_s = max(lateness.worst_s, time.perf_counter() - due_at)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(), name="watch the event loop")
        yield lateness
        watching.cancel()
