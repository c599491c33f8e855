"""`comfyworker vast`: a worker of a serverless endpoint on Vast.ai."""

from __future__ import annotations

import asyncio
import sys

from comfyworker._version import __version__
from comfyworker.cli.running import fail, prepare
from comfyworker.errors import WorkerError
from comfyworker.hosts.startup import SETTINGS, Startup
from comfyworker.hosts.vast.serving import serve
from comfyworker.jobs import JobError
from comfyworker.settings import Settings


def vast() -> None:
    """Serve jobs that Vast.ai's router signs, and report to its autoscaler, as a worker of an endpoint there.

    What Vast tells its instances is read from the environment: REPORT_ADDR, MASTER_TOKEN, CONTAINER_ID, PUBLIC_IPADDR,
    WORKER_PORT, USE_SSL. The worker is ready when a benchmark has rated it (BENCHMARK_JSON_PATH); its score is kept in
    STATE_DIR. Elsewhere `comfyworker serve` is the server to start.
    SIGTERM and Ctrl-C let running jobs end first (DRAIN_TIMEOUT_S); the same again does not wait.

    Examples:
        comfyworker vast
        # Rated by a job of one's own
        BENCHMARK_JSON_PATH=/workspace/benchmark.json comfyworker vast
        # A trial without Vast
        UNSECURED=true WORKER_PORT=3000 comfyworker vast
    """
    startup = Startup()
    with startup.phase(SETTINGS):
        settings = prepare()
    run_host(settings, startup)


def run_host(settings: Settings, startup: Startup) -> None:
    """Serve until it is stopped; a server that cannot be ends the command.

    Args:
        settings: The worker's settings.
        startup: Hears how the start goes.
    """
    try:
        asyncio.run(serve(settings, startup=startup, on_up=lambda url: _tell_what_is_served(url, settings)))
    except WorkerError as error:
        fail(JobError.of(error))


def _tell_what_is_served(url: str, settings: Settings) -> None:
    is_open = settings.vast.unsecured
    who, rest = ("signed or not", "") if is_open else ("signed by Vast", " with a key of API_KEYS")
    lines = (
        f"comfyworker {__version__} serves {url}",
        "",
        f"# Jobs, {who}: POST /generate/sync, /generate, /generate/stream",
        "# Sessions: POST /session/create, /session/get, /session/health, /session/end",
        f"# Signs of life: GET /health; all else{rest}: {url}/docs",
        "# Ready when the benchmark has rated it: the log says vast.ready",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
