"""`comfyworker workflow`: look at workflow files and change their format; nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from comfyworker.cli.running import fail, run_to_end
from comfyworker.cli.workflow_classes import (
    ObjectInfoFile,
    WorkflowFile,
    ask_comfyui,
    open_workflow,
    running_classes,
    say,
)
from comfyworker.cli.workflow_config import config
from comfyworker.cli.workflow_files import write_whole
from comfyworker.cli.workflow_parameters import parameters
from comfyworker.cli.workflow_table import print_needs
from comfyworker.errors import WorkerError
from comfyworker.jobs import Graph, JobError
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.gui import convert_gui, convert_what_can_be, is_gui_format
from comfyworker.workflow.metadata import listed_in_graph
from comfyworker.workflow.needs import Needs, inspect_workflow
from comfyworker.workflow.node_classes import NodeClasses

app = typer.Typer(help="Look at workflow files and change their format; nothing is run.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at workflow files and change their format; nothing is run."""  # shown as the group's help


@app.command()
def convert(
    file: WorkflowFile,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to.", show_default="standard output")
    ] = None,
    object_info: ObjectInfoFile = None,
) -> None:
    """Turn a workflow that ComfyUI's page saved (GUI format) into API format.

    The names of a node's inputs are not in the file, so a ComfyUI is asked for its node classes: that of COMFY_API_URL,
    else one is started for it. Exit code 1 when the workflow cannot be converted; each reason is named.

    Examples:
        comfyworker workflow convert saved.json -o workflow.json
        # With the node classes of a ComfyUI elsewhere
        comfyworker workflow convert saved.json --object-info object_info.json
    """
    settings, value, given = open_workflow(file, object_info)
    try:
        if is_gui_format(value):
            graph = convert_gui(value, given or run_to_end(lambda: ask_comfyui(settings)))
        else:
            graph = read_workflow(value, path="workflow", check_links=False)
            say(f"{file} is in API format already")
        _write(graph, output)
    except WorkerError as error:
        fail(JobError.of(error))


@app.command()
def inspect(
    file: WorkflowFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False,
    object_info: ObjectInfoFile = None,
) -> None:
    """Say what a workflow needs and offers: node classes, models by folder, input files, outputs, parameters.

    Takes both formats. The ComfyUI of COMFY_API_URL, or --object-info, tells what is there; without either, names and
    tables must do, and nothing is started.

    Examples:
        comfyworker workflow inspect examples/workflows/flux1-dev.json
        # What is missing on a ComfyUI that runs
        COMFY_API_URL=http://127.0.0.1:8188 comfyworker workflow inspect my.json
        comfyworker workflow inspect my.json --json | jq '.models[].name'
    """
    settings, value, given = open_workflow(file, object_info)
    try:
        needs = _needs(value, given or running_classes(settings))
    except WorkerError as error:
        fail(JobError.of(error))
    if as_json:
        typer.echo(orjson.dumps(needs.model_dump(mode="json"), option=orjson.OPT_INDENT_2).decode())
    else:
        print_needs(needs)


app.command()(parameters)
app.command()(config)


def _needs(value: object, classes: NodeClasses | None) -> Needs:
    if not is_gui_format(value):
        graph = read_workflow(value, path="workflow", check_links=False)
        return inspect_workflow(graph, classes, listed_models=listed_in_graph(graph))
    done = convert_what_can_be(value, classes or NodeClasses({}))
    if not done.graph and done.problems:
        convert_gui(value, NodeClasses({}))  # raises what keeps it from being read at all
    return inspect_workflow(done.graph, classes, listed_models=done.listed_models, packs=done.packs)


def _write(graph: Graph, output: Path | None) -> None:
    content = orjson.dumps(graph, option=orjson.OPT_INDENT_2) + b"\n"
    if output is None:
        typer.echo(content.decode(), nl=False)
        return
    write_whole(output, content)
    say(f"{len(graph)} nodes in {output}")
