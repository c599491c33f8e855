"""How long the command takes before it does anything."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.processes import clean_environ
from benchmarks.report import Row

ROUNDS = 20
WARM_UPS = 2
IMPORT_BUDGET_MS = 50.0
VERSION_BUDGET_MS = 200.0

COMMANDS = {
    "floor": (sys.executable, "-c", "pass"),
    "import": (sys.executable, "-c", "import comfyworker"),
    "version": (str(Path(sys.executable).with_name("comfyworker")), "--version"),
}


async def measure_start_time(ground: Ground) -> list[Row]:
    """Start Python, import the package, and ask the command for its version, in turns, files in the page cache."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"start of the command (rounds: {rounds})")
    spent_ms: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(-WARM_UPS, rounds):
        for name, command in COMMANDS.items():
            duration_ms = await _run(command)
            if number >= 0:
                spent_ms[name].append(duration_ms)
    p50_ms = {name: statistics.median(values) for name, values in spent_ms.items()}
    return [
        _row("import", "python -c 'import comfyworker', whole process, p50", p50_ms, IMPORT_BUDGET_MS, rounds),
        _row("version", "comfyworker --version, whole process, p50", p50_ms, VERSION_BUDGET_MS, rounds),
    ]


def _row(name: str, what: str, p50_ms: dict[str, float], budget_ms: float, rounds: int) -> Row:
    return Row(
        name=f"start.{name}",
        what=what,
        unit="ms",
        floor=p50_ms["floor"],
        ours=p50_ms[name],
        budget=budget_ms,
        rule=f"{budget_ms:g} ms",
        rounds=rounds,
    )


async def _run(command: tuple[str, ...]) -> float:
    begun_at = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, env=clean_environ(), stdout=asyncio.subprocess.DEVNULL)
    status = await process.wait()
    duration_ms = 1000 * (time.perf_counter() - begun_at)
    if status:
        message = f"{command} ended with {status}"
        raise RuntimeError(message)
    return duration_ms
