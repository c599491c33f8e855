"""`comfyworker run`: a workflow file in, its artifacts in a folder."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import uuid
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from comfyworker.cli.comfyui import offer_install
from comfyworker.cli.picture_options import FormatOption, QualityOption, StripOption
from comfyworker.cli.progress import ProgressView
from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, prepare, print_error, run_to_end
from comfyworker.delivery.folder import FolderDelivery
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.hosts.local import parse_json
from comfyworker.hosts.worker import open_pipeline
from comfyworker.jobs import Artifact, InputFile, JobRequest, JobResult, Output
from comfyworker.settings import Settings
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.overrides import apply_overrides, parse_assignment


def run(  # noqa: PLR0913  # each is an option of the command
    workflow: Annotated[Path, typer.Argument(help="Workflow file in API format; `-` reads standard input.")],
    *,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Input file for the workflow, as `name=path`: the name is what the workflow's node says. A path "
            "alone goes by its own name. May be repeated.",
            metavar="NAME=PATH",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change an input of a node, as `6.text=a red fox`: node id or title, dot, input, value (JSON or "
            "text). May be repeated.",
            metavar="NODE.INPUT=VALUE",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the artifacts.")] = Path("out"),
    format_: FormatOption = None,
    quality: QualityOption = None,
    strip_metadata: StripOption = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds within which the job must be done.", min=0.001)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the answer, as JSON, on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log, ComfyUI's own included.")] = False,
) -> None:
    r"""Run a workflow here and save what it makes.

    Starts ComfyUI if none is running (and offers to make one if there is none), shows progress on stderr, and prints
    where the artifacts are and how long each stage took. Exit code 0 when the job succeeded, 1 when it failed, 2 when
    the command was wrong, 130 after Ctrl-C.

    Examples:
        # Its pictures end up in out/
        comfyworker run examples/poster.json
        # Files for the workflow's input nodes, and other values for nodes
        comfyworker run workflow.json --image input.png=cat.jpg \
            --set 6.text="a red fox" --set 3.seed=7 -o pictures
        comfyworker run workflow.json --format webp --quality 85
        # For programs
        comfyworker run workflow.json --json | jq -r '.artifacts[].path'
    """
    settings = prepare(quiet_level=None if verbose else "error")
    try:
        wanted = Output(format=format_, quality=quality, strip_metadata=strip_metadata)
        request = _request(workflow, image or [], set_ or [], timeout, wanted)
        _make_folder(output)
        if not as_json:
            offer_install(settings.comfyui)
    except WorkerError as error:
        _finish_with(JobResult.refused("", error), as_json=as_json, exit_code=EXIT_USAGE)
    result = run_to_end(lambda: _run(request, settings, output, is_quiet=as_json or verbose))
    _finish_with(result, as_json=as_json, exit_code=EXIT_FAILED)


async def _run(request: JobRequest, settings: Settings, output: Path, *, is_quiet: bool) -> JobResult:
    with contextlib.ExitStack() as stack:
        view = None if is_quiet else stack.enter_context(ProgressView())
        try:
            async with open_pipeline(settings) as pipeline:
                result = await pipeline.run(
                    request, delivery=FolderDelivery(output), on_progress=view.show if view else None
                )
                if view is not None and not settings.comfyui.api_urls:
                    view.say("stopping ComfyUI")
                return result
        except WorkerError as error:
            return JobResult.refused(request.id, error)


def _request(
    workflow: Path, images: list[str], assignments: list[str], timeout_s: float | None, output: Output
) -> JobRequest:
    hint = "It must hold a workflow in API format; ComfyUI's menu has 'Export (API)'."
    graph = read_workflow(
        parse_json(_read(workflow), name=str(workflow), hint=hint), path="workflow", check_links=False
    )
    overrides = [parse_assignment(text) for text in assignments]
    graph = apply_overrides(graph, overrides, labels=[f"--set {text}" for text in assignments])
    files = tuple(_input_file(text) for text in images)
    return JobRequest(id=uuid.uuid4().hex, workflow=graph, files=files, timeout_s=timeout_s, output=output)


def _input_file(text: str) -> InputFile:
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).name, text
    return InputFile(name=name, data=base64.b64encode(_read(Path(path))).decode())


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidRequest(f"{path}: {reason}", hint="Check the name; paths are relative to this folder.") from error


def _make_folder(folder: Path) -> None:
    """Make the folder now: nobody wants to hear after a long job that it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "it cannot be made").lower()
        raise InvalidRequest(f"--output {folder}: {reason}", hint="Choose a folder that can be written.") from error


def _finish_with(result: JobResult, *, as_json: bool, exit_code: int) -> None:
    if as_json:
        typer.echo(json.dumps(_document(result), indent=2))
    elif result.error is None:
        _print_summary(result)
    else:
        print_error(result.error)
    if result.error is not None:
        raise typer.Exit(exit_code)


def _document(result: JobResult) -> dict[str, JsonValue]:
    document: dict[str, JsonValue] = result.model_dump(
        mode="json", exclude_none=True, exclude={"artifacts": {"__all__": {"data"}}}
    )
    return document


def _print_summary(result: JobResult) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)  # names may hold brackets
    table = Table(box=None, pad_edge=False, show_header=False)
    for artifact in result.artifacts:
        table.add_row(str(artifact.path), str(artifact.kind), _size(artifact), f"node {artifact.node_id}")
    console.print(table if result.artifacts else "the workflow made no artifacts")
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow")
    spent = result.timings.model_dump(exclude_none=True)
    stages = "   ".join(f"{name.removesuffix('_s')} {seconds:.3f} s" for name, seconds in spent.items())
    console.print(stages, style="dim")


def _size(artifact: Artifact) -> str:
    size = float(artifact.size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
