"""`comfyworker runpod`: a worker of RunPod Serverless."""

from __future__ import annotations

import typer

from comfyworker.cli.running import fail, prepare
from comfyworker.errors import WorkerError
from comfyworker.hosts.runpod import run
from comfyworker.hosts.startup import SETTINGS, Startup
from comfyworker.jobs import JobError
from comfyworker.settings import Settings


def runpod() -> None:
    """Run the jobs of a RunPod Serverless endpoint, with the ComfyUI that is found.

    It is the command of a RunPod worker's container; RunPod sets the variables that it needs. ComfyUI starts before
    RunPod's SDK is loaded, and jobs are taken when it is up. SIGTERM lets running jobs end first (DRAIN_TIMEOUT_S);
    the same again does not wait. Exit code 0 after SIGTERM, 1 when ComfyUI cannot run.

    Examples:
        comfyworker runpod
        # Each job on a fresh worker
        REFRESH_WORKER=true comfyworker runpod
        # Outputs as they come, for /stream
        STREAM_OUTPUTS=true comfyworker runpod
    """
    startup = Startup()
    with startup.phase(SETTINGS):
        settings = prepare()
    run_host(settings, startup)


def run_host(settings: Settings, startup: Startup) -> None:
    """Run the endpoint's jobs until SIGTERM; the exit code ends the command."""
    try:
        code = run(settings, startup=startup)
    except WorkerError as error:
        fail(JobError.of(error))
    raise typer.Exit(code)
