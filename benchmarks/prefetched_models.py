"""What a model on a slow disk costs a job, and what is left of that when it is read ahead or copied."""

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.report import Row
from benchmarks.worker import Worker, worker_on
from comfyworker.jobs import Graph
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.figures import Figures
from support import workflows
from support.eventually import eventually
from support.ports import free_port
from support.real_comfyui import CHECKPOINT_NAME, lay_out

ROUNDS = 3
LATENCY_MS = 5.0
NAME = "on-the-volume.safetensors"
SOURCE = Path("source/checkpoints")
REPOSITORY = Path(__file__).resolve().parent.parent


async def measure_prefetched_models(ground: Ground) -> list[Row]:
    """Load a checkpoint behind another job, from a slow disk and out of no cache: three ComfyUIs in turn.

    One reads it from there; of one the worker reads it ahead while the other job runs; one has it copied.
    """
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"a model on a disk of {LATENCY_MS:g} ms a read (rounds: {rounds})")
    with tempfile.TemporaryDirectory(prefix="comfyworker-slow-") as folder, _slow_volume(Path(folder), ground) as model:
        if model is None:
            return []
        off_ms = await _measure_mode(ground, Path(folder), model, "off", rounds)
        spent_ms = {
            mode: await _measure_mode(ground, Path(folder), model, mode, rounds) for mode in ("readahead", "copy")
        }
        size_mb = model.stat().st_size / 1e6
    warm_ms, spent_ms["off"] = statistics.median(off_ms[::2]), off_ms[1::2]
    return [
        Row(
            name=f"prefetch.{mode}",
            what=f"a job that loads a checkpoint of {size_mb:.0f} MB {what} a disk of {LATENCY_MS:g} ms a read, p50",
            unit="ms",
            floor=warm_ms,
            ours=statistics.median(spent_ms[mode]),
            rounds=rounds,
        )
        for mode, what in (("off", "from"), ("readahead", "read ahead from"), ("copy", "copied from"))
    ]


async def _measure_mode(ground: Ground, folder: Path, model: Path, mode: str, rounds: int) -> list[float]:
    """Return how long ComfyUI executed the job in each round, the file in no cache.

    Where nothing is brought nearer, before each of these with the file in memory, too.
    """
    checkpoint = ground.comfyui.base_dir / "models/checkpoints" / CHECKPOINT_NAME
    base_dir = lay_out(folder / mode, checkpoint.resolve())
    more = {
        "COMFYUI_PATH": str(ground.comfyui.install.path),
        "COMFYUI_PYTHON": str(ground.comfyui.install.python),
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": "--disable-api-nodes",
        "MODELS_PATH": str(model.parent.parent),
        "PREFETCH_MODELS": mode,
        "LOCAL_MODEL_CACHE_GB": "1" if mode == "copy" else "",
        "LOCAL_MODEL_CACHE_DIR": str(folder / "copies"),
        "STATE_DIR": str(base_dir / "state"),
    }
    async with worker_on("", base_dir, more) as worker:
        await _job_ms(worker, folder, CHECKPOINT_NAME)  # imports what loading needs
        spent_ms = []
        for _ in range(rounds):
            if mode == "off":
                await asyncio.to_thread(model.read_bytes)
                spent_ms += [await _job_ms(worker, folder, NAME)]
            spent_ms += [await _job_ms(worker, folder, NAME, dropped=model)]
    return spent_ms


async def _job_ms(worker: Worker, folder: Path, checkpoint: str, *, dropped: Path | None = None) -> float:
    """Return how long ComfyUI executed a job behind another one; the file `dropped` is in no cache when they come."""
    prefetch = worker.pipeline.prefetch
    gate = folder / f"gate-{workflows.unique_prefix()}"
    graph = _decode_nothing(checkpoint)
    # ComfyUI keeps what the nodes of the last workflow gave, and maps files until it lets go of that.
    await worker.run(workflows.noise())
    if dropped is not None:
        await asyncio.to_thread(_drop, [dropped, *(folder / "copies").rglob(f"*{NAME}")])
        if prefetch is not None and prefetch.copies is None:
            (folder / SOURCE / NAME).touch()  # another file to the worker, which would not read the same one again
    before = prefetch.figures.read_bytes if prefetch is not None else 0
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(workflows.wait(steps=1, until_file=gate)))
        job = group.create_task(worker.run(graph))
        if prefetch is not None and dropped is not None:
            await eventually(lambda: _is_near(prefetch.figures, prefetch.copies, before, dropped), within_s=120)
        gate.touch()
    execute_s = job.result().timings.execute_s
    return 1000 * (execute_s or 0.0)


def _decode_nothing(checkpoint: str) -> Graph:
    """Return a workflow that loads a whole checkpoint and does next to nothing with it."""
    return {
        "1": workflows.node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "2": workflows.node("EmptySD3LatentImage", width=16, height=16, batch_size=1),
        "3": workflows.node("VAEDecode", samples=["2", 0], vae=["1", 2]),
        "4": workflows.save("3"),
    }


def _is_near(figures: Figures, copies: LocalCopies | None, before_bytes: int, model: Path) -> bool:
    if copies is not None:
        return copies.contents().files == 1
    return figures.read_bytes - before_bytes >= model.stat().st_size


def _drop(files: list[Path]) -> None:
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _slow_volume(folder: Path, ground: Ground) -> Iterator[Path | None]:
    """Put the run's checkpoint on a slow disk and give its place there; None where no such disk can be mounted."""
    source, mount = folder / SOURCE, folder / "volume"
    source.mkdir(parents=True)
    mount.mkdir()
    shutil.copyfile(ground.comfyui.base_dir / "models/checkpoints" / CHECKPOINT_NAME, source / NAME)
    command = [sys.executable, "-m", "benchmarks.slow_volume"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        plan = {"source": str(source.parent), "mount": str(mount), "latency_s": LATENCY_MS / 1000}
        process.stdin.write(f"{json.dumps(plan)}\n")
        process.stdin.flush()
        is_there = process.stdout.readline().strip() == "ready"
        try:
            yield mount / "checkpoints" / NAME if is_there else None
        finally:
            process.stdin.close()
            process.wait()
