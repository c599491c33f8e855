"""How much of a link the downloads of a config.yml use, where each connection gets a part of it only."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp

from benchmarks.ground import Ground
from benchmarks.model_link import MB, file_names
from benchmarks.processes import REPOSITORY, clean_environ
from benchmarks.report import Row
from comfyworker.provision.download import Download, Downloader
from comfyworker.settings import ProvisionSettings, StoreSettings

FILES = 8
SIZE_MB = 40
PLAIN_FILES = 2
LINK_MB_S = 40.0
CONNECTION_MB_S = 5.0
ROUNDS = 3
LINK_BUDGET = 0.9
CHUNK_BYTES = 256 * 1024

Way = Callable[[Sequence[str], Path], Awaitable[None]]


async def measure_downloads(ground: Ground) -> list[Row]:
    """Fetch 8 files by the worker's downloader, and two of them one after the other as a plain loop does."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"download of {FILES} files of {SIZE_MB} MB (rounds: {rounds})")
    async with model_link() as url:
        rates = sorted([await _rate(url, _by_worker, FILES) for _ in range(rounds)])
        plain = await _rate(url, _one_by_one, PLAIN_FILES)
    return [
        Row(
            name="downloads.rate",
            what=f"rate of {FILES} models of {SIZE_MB} MB over a link of {LINK_MB_S:g} MB/s that gives each connection "
            f"{CONNECTION_MB_S:g} MB/s (floor: one after the other by aiohttp), median",
            unit="MB/s",
            floor=plain,
            ours=rates[len(rates) // 2],
            budget=LINK_BUDGET * LINK_MB_S,
            is_more_better=True,
            rule=f"{LINK_BUDGET:g} of the link",
            rounds=rounds,
            details={"least_mb_s": rates[0], "most_mb_s": rates[-1], "link_mb_s": LINK_MB_S},
        )
    ]


@contextlib.asynccontextmanager
async def model_link() -> AsyncIterator[str]:
    """Run the host behind its link; yield its URL."""
    environ = {**clean_environ(), "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.model_link"),
        cwd=REPOSITORY,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if child.stdin is None or child.stdout is None:
        raise AssertionError  # both are pipes
    plan = {"files": FILES, "size_mb": SIZE_MB, "link_mb_s": LINK_MB_S, "connection_mb_s": CONNECTION_MB_S}
    try:
        child.stdin.write(json.dumps(plan).encode() + b"\n")
        yield (await child.stdout.readline()).decode().strip()
    finally:
        child.stdin.close()
        await child.wait()


async def _rate(url: str, way: Way, count: int) -> float:
    """Return the MB of each second until `count` files are whole in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="comfyworker-bench-") as folder:
        begun_at = time.perf_counter()
        await way([f"{url}/files/{name}" for name in file_names(count)], Path(folder))
        took_s = time.perf_counter() - begun_at
        sizes = [entry.stat().st_size for entry in os.scandir(folder)]
    if sizes != [SIZE_MB * MB] * count:
        message = f"{len(sizes)} files have come, of {sum(sizes)} bytes"
        raise RuntimeError(message)
    return count * SIZE_MB / took_s


async def _by_worker(urls: Sequence[str], folder: Path) -> None:
    """Fetch as `config apply` does, by the settings' defaults: hashed, and brought to the disk."""
    async with Downloader(ProvisionSettings(), StoreSettings()) as downloader, asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(downloader.fetch(Download(url=url, folder=folder)))


async def _one_by_one(urls: Sequence[str], folder: Path) -> None:
    """Fetch one after the other over one connection, neither hashed nor brought to the disk."""
    async with aiohttp.ClientSession() as session:
        for url in urls:
            async with session.get(url) as answer:
                with (folder / url.rpartition("/")[2]).open("wb") as file:
                    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                        file.write(chunk)
