"""All benchmarks in one run, on one real ComfyUI."""

import argparse
import asyncio
import functools
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
from rich.console import Console

from benchmarks.added_time import measure_added_time
from benchmarks.bucket import StoreStarter
from benchmarks.conversion import measure_conversion
from benchmarks.downloads import measure_downloads
from benchmarks.floor import BareClient
from benchmarks.ground import Ground
from benchmarks.http_host import measure_http_host
from benchmarks.idle_gaps import measure_idle_gaps
from benchmarks.idle_load import measure_idle_load
from benchmarks.memory import measure_memory
from benchmarks.prefetched_models import measure_prefetched_models
from benchmarks.preflight import measure_preflight
from benchmarks.report import Report, Row, print_table, save_report, to_json
from benchmarks.runpod_loop import measure_runpod_loop
from benchmarks.start_time import measure_start_time
from benchmarks.stored_jobs import measure_stored_jobs
from benchmarks.unchanged_config import measure_unchanged_config
from benchmarks.uploads import measure_uploads
from benchmarks.worker import worker_on
from support.object_store import shared_object_store
from support.real_comfyui import RealComfyUI, shared_comfyui

MEASURES: dict[str, Callable[[Ground], Awaitable[list[Row]]]] = {
    "added": measure_added_time,
    "gaps": measure_idle_gaps,
    "memory": measure_memory,
    "uploads": measure_uploads,
    "stored": measure_stored_jobs,
    "conversion": measure_conversion,
    "downloads": measure_downloads,
    "start": measure_start_time,
    "preflight": measure_preflight,
    "config": measure_unchanged_config,
    "prefetch": measure_prefetched_models,
    "idle": measure_idle_load,
    "http": measure_http_host,
    "runpod": measure_runpod_loop,
}
LINE_WIDTH = 120  # of the table, where no terminal says


def main(arguments: Sequence[str]) -> int:
    """Measure, show the table, keep the figures; return 0 if every budget is met, else 1."""
    options = _parser().parse_args(arguments)
    names = options.only or list(MEASURES)
    with tempfile.TemporaryDirectory(prefix="comfyworker-bench-", ignore_cleanup_errors=True) as folder:
        _say("starting ComfyUI")
        comfyui = shared_comfyui(Path(folder), os.getpid(), os.environ)
        start_store = functools.partial(shared_object_store, Path(folder), os.getpid(), os.environ, has_cache=True)
        report = asyncio.run(_measure(comfyui, start_store, names, options.rounds))
    save_report(report)
    print_table(report, _console(stderr=options.json))
    if options.json:
        print(to_json(report))
    return 0 if report.is_met else 1


async def _measure(comfyui: RealComfyUI, start_store: StoreStarter, names: Sequence[str], rounds: int | None) -> Report:
    begun_at, load_before = time.perf_counter(), os.getloadavg()[0]
    async with (
        aiohttp.ClientSession() as session,
        BareClient(comfyui.url, comfyui.output_dir) as floor,
        worker_on(comfyui.url, comfyui.base_dir) as worker,
    ):
        ground = Ground(comfyui, session, floor, worker, rounds, _say, start_store)
        rows: list[Row] = []
        for name in names:
            rows += await MEASURES[name](ground)
        version = await ground.comfyui_version()
    return Report(
        rows=tuple(rows),
        comfyui_version=version,
        cores=os.cpu_count() or 0,
        load_before=load_before,
        load_after=os.getloadavg()[0],
        duration_s=time.perf_counter() - begun_at,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the worker adds.")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="measure this alone; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each measure, instead of its own number")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout, the table on stderr")
    return parser


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=LINE_WIDTH)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
