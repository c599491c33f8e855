"""`comfyworker start`: the container's command, which finds out where it is."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from comfyworker.cli.running import fail, prepare
from comfyworker.errors import WorkerError
from comfyworker.hosts.starting import HostKind, choose_host, local_http
from comfyworker.hosts.startup import IMPORTS, SETTINGS, Startup
from comfyworker.jobs import JobError

_COMMANDS = {HostKind.RUNPOD: "runpod", HostKind.VAST: "vast", HostKind.HTTP: "serve"}
"""Where each host's command is, in comfyworker.cli."""


def start(
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Run one job as `comfyworker test` does, and end; so does MODE_TO_RUN=test.")
    ] = False,
    test_input: Annotated[
        list[str] | None,
        typer.Option(
            "--test_input",
            "--test-input",
            metavar="JSON|FILE",
            help='The job for that: `{"input": {…}}`, or what belongs into its `input`. May be repeated.',
        ),
    ] = None,
) -> None:
    """Start ComfyUI, and run the host that fits where this is: the command of a container.

    On RunPod Serverless that is `comfyworker runpod`, on Vast.ai's serverless workers `comfyworker vast`, elsewhere, in
    RunPod's pods and plain instances of Vast too, `comfyworker serve`. WORKER_HOST (`runpod`, `vast`, `http`) decides
    instead. The log tells what was chosen and by what, and when it is up, how long each phase of the start took.

    The config.yml that applies is made true first, unless PROVISION_AT_START is false: custom nodes before ComfyUI is
    started, models while it starts and serves.

    SERVE_API_LOCALLY=true serves HTTP on port 8000 for whoever develops on this machine: in a container on all
    addresses and without keys, so map the port as `127.0.0.1:8000:8000`. Elsewhere, other machines are let in only
    with API_KEYS and SERVE_HOST.

    Examples:
        comfyworker start
        # Serve HTTP, wherever this is
        WORKER_HOST=http API_KEYS="$KEY" SERVE_HOST=0.0.0.0 comfyworker start
        # One job, and end: tells whether an image works
        comfyworker start --test
        comfyworker start --test_input examples/request.json
    """
    startup = Startup()
    with startup.phase(SETTINGS):
        settings = prepare()
    if test or test_input or settings.platform.mode == "test":
        with startup.phase(IMPORTS):
            from comfyworker.cli.test import run_tests  # noqa: PLC0415  # a host needs none of this

        run_tests(test_input or [], settings, startup)
        return
    try:
        choice = choose_host(settings)
    except WorkerError as error:
        fail(JobError.of(error))
    choice.log()
    if choice.kind is HostKind.HTTP:
        settings = local_http(settings)
    if settings.provision.at_start is None:
        settings = settings.model_copy(update={"provision": settings.provision.model_copy(update={"at_start": True})})
    with startup.phase(IMPORTS):
        command = importlib.import_module(f"comfyworker.cli.{_COMMANDS[choice.kind]}")
    command.run_host(settings, startup)
