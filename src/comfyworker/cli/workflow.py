"""`comfyworker workflow`: look at workflow files and change their format; nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, fail, prepare, run_to_end
from comfyworker.cli.workflow_files import read_workflow_file, write_whole
from comfyworker.cli.workflow_table import print_needs
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.jobs import Graph, JobError
from comfyworker.settings import Settings
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.gui import convert_gui, convert_what_can_be, is_gui_format
from comfyworker.workflow.needs import Needs, inspect_workflow
from comfyworker.workflow.node_classes import NodeClasses

app = typer.Typer(help="Look at workflow files and change their format; nothing is run.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="Workflow file; `-` reads standard input.")]
_ObjectInfo = Annotated[
    Path | None,
    typer.Option(
        help="What a ComfyUI answered to `GET /object_info`, as a file, instead of a ComfyUI.", metavar="FILE"
    ),
]


@app.callback()
def _group() -> None:
    """Look at workflow files and change their format; nothing is run."""  # shown as the group's help


@app.command()
def convert(
    file: _File,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to.", show_default="standard output")
    ] = None,
    object_info: _ObjectInfo = None,
) -> None:
    """Turn a workflow that ComfyUI's page saved (GUI format) into API format.

    The names of a node's inputs are not in the file, so a ComfyUI is asked for its node classes: that of COMFY_API_URL,
    else one is started for it. Exit code 1 when the workflow cannot be converted; each reason is named.
    """
    settings = prepare(quiet_level="error")
    try:
        value = read_workflow_file(file)
        given = None if object_info is None else _read_classes(object_info)
    except WorkerError as error:
        fail(JobError.of(error), code=EXIT_USAGE)
    try:
        if is_gui_format(value):
            graph = convert_gui(value, given or run_to_end(lambda: _ask_comfyui(settings)))
        else:
            graph = read_workflow(value, path="workflow", check_links=False)
            _say(f"{file} is in API format already")
        _write(graph, output)
    except WorkerError as error:
        fail(JobError.of(error))


@app.command()
def inspect(
    file: _File,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False,
    object_info: _ObjectInfo = None,
) -> None:
    """Say what a workflow needs and offers: node classes, models by folder, input files, outputs, parameters.

    Takes both formats. The ComfyUI of COMFY_API_URL, or --object-info, tells what is there; without either, names and
    tables must do, and nothing is started.
    """
    settings = prepare(quiet_level="error")
    try:
        value = read_workflow_file(file)
        classes = None if object_info is None else _read_classes(object_info)
        graph_needs = _needs(value, classes or _running_classes(settings))
    except WorkerError as error:
        fail(JobError.of(error), code=EXIT_FAILED)
    if as_json:
        typer.echo(orjson.dumps(graph_needs.model_dump(mode="json"), option=orjson.OPT_INDENT_2).decode())
    else:
        print_needs(graph_needs)


def _needs(value: object, classes: NodeClasses | None) -> Needs:
    if not is_gui_format(value):
        return inspect_workflow(read_workflow(value, path="workflow", check_links=False), classes)
    done = convert_what_can_be(value, classes or NodeClasses({}))
    if not done.graph and done.problems:
        convert_gui(value, NodeClasses({}))  # raises what keeps it from being read at all
    return inspect_workflow(done.graph, classes, listed_models=done.listed_models, packs=done.packs)


def _running_classes(settings: Settings) -> NodeClasses | None:
    return run_to_end(lambda: _ask_comfyui(settings)) if settings.comfyui.api_urls else None


async def _ask_comfyui(settings: Settings) -> NodeClasses:
    if not settings.comfyui.api_urls:
        _say("starting ComfyUI to ask for its node classes")
    async with ComfyUIPool(settings.comfyui, settings.shutdown, cwd=Path.cwd()) as pool:
        instance = await pool.any_ready()
        return await instance.node_classes()


def _read_classes(path: Path) -> NodeClasses:
    info = read_workflow_file(path)
    if not isinstance(info, dict) or not all(isinstance(entry, dict) for entry in info.values()) or not info:
        _refuse(path)
    return NodeClasses(info)


def _refuse(path: Path) -> NoReturn:
    message = f"--object-info {path}: is not what a ComfyUI answers to GET /object_info"
    raise InvalidRequest(message, hint="curl http://127.0.0.1:8188/object_info > object_info.json")


def _write(graph: Graph, output: Path | None) -> None:
    content = orjson.dumps(graph, option=orjson.OPT_INDENT_2) + b"\n"
    if output is None:
        typer.echo(content.decode(), nl=False)
        return
    write_whole(output, content)
    _say(f"{len(graph)} nodes in {output}")


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)
