"""`comfyworker serve`: a ComfyUI as an HTTP API."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from comfyworker._version import __version__
from comfyworker.cli.running import fail, prepare
from comfyworker.errors import WorkerError
from comfyworker.hosts.http.listening import bind, url_of
from comfyworker.hosts.http.serving import serve as serve_until_stopped
from comfyworker.hosts.startup import SETTINGS, Startup
from comfyworker.jobs import JobError
from comfyworker.settings import HttpSettings, Settings

# Needs no model, so it runs on every ComfyUI.
_WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 3368601}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "hello"}},
}


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen on, instead of SERVE_HOST.",
            autocompletion=lambda: [("127.0.0.1", "this machine alone"), ("0.0.0.0", "others too, with keys")],  # noqa: S104
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65535, help="Port to listen on, instead of SERVE_PORT; 0: a free one."
        ),
    ] = None,
) -> None:
    """Serve RunPod's, Vast's and Comfy's APIs over HTTP, with the ComfyUI that is found.

    When it is up, it prints what to curl. Jobs outlive it: what was taken and has not run is run at the next start.
    SIGTERM and Ctrl-C let running jobs end first (DRAIN_TIMEOUT_S); the same again does not wait.

    Examples:
        comfyworker serve
        # For other machines, which need a key
        API_KEYS="$KEY" comfyworker serve --host 0.0.0.0 --port 8000
        # With a ComfyUI that runs already
        COMFY_API_URL=http://127.0.0.1:8188 comfyworker serve
    """
    startup = Startup()
    with startup.phase(SETTINGS):
        settings = prepare()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    run_host(settings.model_copy(update={"http": settings.http.model_copy(update=given)}), startup)


def run_host(settings: Settings, startup: Startup) -> None:
    """Serve until it is stopped; a server that cannot be ends the command.

    Args:
        settings: The server's settings.
        startup: Hears how the start goes.
    """
    try:
        with bind(settings.http) as bound:
            asyncio.run(
                serve_until_stopped(
                    settings,
                    bound,
                    on_up=lambda: _tell_what_to_curl(url_of(bound), settings.http),
                    startup=startup,
                )
            )
    except WorkerError as error:
        fail(JobError.of(error))


def _tell_what_to_curl(url: str, settings: HttpSettings) -> None:
    """Print requests that work as they stand; where there are keys, `$KEY` must be one of them."""
    head = "-H 'Content-Type: application/json'"
    head += ' -H "Authorization: Bearer $KEY"' if settings.api_keys else ""
    job, v2_job = (
        json.dumps(body, separators=(",", ":"))
        for body in ({"input": {"workflow": _WORKFLOW}}, {"workflow": _WORKFLOW})
    )
    lines = (
        f"comfyworker {__version__} serves {url}",
        "",
        "# Is ComfyUI up?",
        f"curl {url}/ready",
        "# A picture, as RunPod's clients ask for it; /run does not wait",
        f"curl {url}/runsync {head} -d '{job}'",
        "# The same, as Vast's clients ask",
        f"curl {url}/generate/sync {head} -d '{job}'",
        "# The same, as a job of Comfy API v2",
        f"curl {url}/api/v2/jobs {head} -d '{v2_job}'",
        f"# All there is: {url}/docs",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
