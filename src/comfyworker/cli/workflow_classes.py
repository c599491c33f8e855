"""Whence the `workflow` commands know ComfyUI's classes: a ComfyUI that runs, one started for it, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.running import EXIT_USAGE, fail, prepare, run_to_end
from comfyworker.cli.workflow_files import read_workflow_file
from comfyworker.comfyui.model_sources import ModelSources
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.jobs import JobError
from comfyworker.settings import Settings
from comfyworker.workflow.node_classes import NodeClasses

WorkflowFile = Annotated[Path, typer.Argument(help="Workflow file; `-` reads standard input.")]
ObjectInfoFile = Annotated[
    Path | None,
    typer.Option(
        help="What a ComfyUI answered to `GET /object_info`, as a file, instead of a ComfyUI.", metavar="FILE"
    ),
]


def running_classes(settings: Settings) -> NodeClasses | None:
    """Return the classes of the ComfyUI of COMFY_API_URL; None if there is none, for none is started here."""
    return run_to_end(lambda: ask_comfyui(settings)) if settings.comfyui.api_urls else None


async def ask_comfyui(settings: Settings) -> NodeClasses:
    """Return the classes of the ComfyUI of COMFY_API_URL, else of one that is started for it.

    Raises:
        ComfyUIUnavailable: there is none that answers.
    """
    if not settings.comfyui.api_urls:
        say("starting ComfyUI to ask for its node classes")
    cwd = Path.cwd()
    models = ModelSources(settings.volume, folder=settings.state.path / "comfyui", cwd=cwd)
    async with ComfyUIPool(settings.comfyui, settings.shutdown, cwd=cwd, models=models) as pool:
        instance = await pool.any_ready()
        return await instance.node_classes()


def read_classes(path: Path) -> NodeClasses:
    """Return the classes that a file holds.

    Raises:
        InvalidRequest: it is not what a ComfyUI answers.
    """
    info = read_workflow_file(path)
    if not isinstance(info, dict) or not all(isinstance(entry, dict) for entry in info.values()) or not info:
        _refuse(path)
    return NodeClasses(info)


def _refuse(path: Path) -> NoReturn:
    message = f"--object-info {path}: is not what a ComfyUI answers to GET /object_info"
    raise InvalidRequest(message, hint="curl http://127.0.0.1:8188/object_info > object_info.json")


def say(text: str) -> None:
    """Tell a person something beside the result, on stderr."""
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


def open_workflow(file: Path, object_info: Path | None) -> tuple[Settings, object, NodeClasses | None]:
    """Begin a workflow command: return the settings, what the file holds, and the classes that were given, if any.

    A file that cannot be read ends the command with exit code 2.
    """
    settings = prepare(quiet_level="error")
    try:
        return settings, read_workflow_file(file), None if object_info is None else read_classes(object_info)
    except WorkerError as error:
        fail(JobError.of(error), code=EXIT_USAGE)
