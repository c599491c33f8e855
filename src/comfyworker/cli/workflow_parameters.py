"""`comfyworker workflow parameters`: propose a modifier file for a workflow."""

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
from comfyworker.cli.workflow_files import write_whole
from comfyworker.errors import WorkerError
from comfyworker.jobs import Graph, JobError
from comfyworker.settings import Settings
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.gui import convert_gui, is_gui_format
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.parameters import propose_modifier


def parameters(
    file: WorkflowFile,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to.", show_default="standard output")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the modifier is called.", show_default="the file's name")
    ] = None,
    object_info: ObjectInfoFile = None,
) -> None:
    """Propose a modifier file: the workflow, and the inputs that callers would set, by name.

    Put the file into the folder of MODIFIERS_DIR, and requests may name it. Types, bounds and choices are those of the
    ComfyUI of COMFY_API_URL, or of --object-info; without either, the values in the workflow must do. A file in GUI
    format is converted first.

    Examples:
        comfyworker workflow parameters poster.json
        comfyworker workflow parameters poster.json -o modifier.json
    """
    settings, value, given = open_workflow(file, object_info)
    try:
        graph, classes = _read(value, given, settings)
        called = name or (file.stem if str(file) != "-" else "Workflow")
        proposal = propose_modifier(graph, classes, name=called)
        content = orjson.dumps(proposal, option=orjson.OPT_INDENT_2) + b"\n"
        if output is not None:
            write_whole(output, content)
    except WorkerError as error:
        fail(JobError.of(error))
    if output is None:
        typer.echo(content.decode(), nl=False)
    else:
        say(f"modifier '{called}' in {output}")


def _read(value: object, given: NodeClasses | None, settings: Settings) -> tuple[Graph, NodeClasses | None]:
    """Return the workflow, and the classes as far as they are at hand."""
    if is_gui_format(value):
        classes = given or run_to_end(lambda: ask_comfyui(settings))
        return convert_gui(value, classes), classes
    return read_workflow(value, path="workflow", check_links=False), given or running_classes(settings)
