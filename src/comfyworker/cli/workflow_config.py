"""`comfyworker workflow config`: the config.yml that makes workflows run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer

from comfyworker.cli.running import EXIT_USAGE, fail, prepare, run_to_end
from comfyworker.cli.workflow_classes import ObjectInfoFile, read_classes, running_classes, say
from comfyworker.cli.workflow_files import read_workflow_file, write_whole
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.proposal import (
    Proposal,
    Source,
    merge_proposals,
    propose_config,
    render_proposal,
)
from comfyworker.settings import Settings
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.gui import convert_gui, convert_what_can_be, is_gui_format
from comfyworker.workflow.metadata import listed_in_graph
from comfyworker.workflow.node_classes import NodeClasses

_NO_LOOK = "sizes and hashes of the models; --online asks their hosts"


def config(
    files: Annotated[list[Path], typer.Argument(help="Workflow files; `-` reads standard input.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to.", show_default="standard output")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Leave out what the ComfyUI that is asked has already.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the models' hosts for sizes and hashes; nothing is downloaded.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    object_info: ObjectInfoFile = None,
) -> None:
    """Print the config.yml that makes workflows run: models with their URLs, and the custom nodes.

    Takes both formats. URLs and hashes are those that a file saved by ComfyUI's page says itself, or `_meta.models` of
    a node in API format. What is not known is a comment with ???, to be completed by hand; what is printed is valid.
    The ComfyUI of COMFY_API_URL, or --object-info, tells which classes custom nodes bring; none is started.

    Examples:
        comfyworker workflow config flux.json wan.json -o config.yml
        # With sizes and hashes, which the models' hosts tell
        comfyworker workflow config examples/workflows/sdxl.json --online
    """
    settings = prepare(quiet_level="error")
    try:
        values = [read_workflow_file(file) for file in files]
        given = None if object_info is None else read_classes(object_info)
    except WorkerError as error:
        fail(JobError.of(error), code=EXIT_USAGE)
    names = [file.name if str(file) != "-" else "standard input" for file in files]
    try:
        classes = given or running_classes(settings)
        if missing and classes is None:
            hint = "Set COMFY_API_URL, or give --object-info FILE."
            raise InvalidRequest("--missing needs a ComfyUI to be asked", hint=hint)
        sources = _read_all(values, names, classes)
        proposal = merge_proposals([propose_config(source, only_missing=missing) for source in sources])
        proposal = _looked_up(proposal, settings) if online else _not_looked_up(proposal)
        text = render_proposal(proposal, made_from=names)
        content = _json(proposal, text) if as_json else text.encode()
        if output is not None:
            write_whole(output, content)
    except WorkerError as error:
        fail(JobError.of(error))
    if output is None:
        typer.echo(content.decode(), nl=False)
    else:
        say(f"{_counted(proposal.models, 'model')} and {_counted(proposal.packs, 'custom node')} in {output}")


def _counted(entries: Sequence[object], noun: str) -> str:
    return f"{len(entries)} {noun}{'' if len(entries) == 1 else 's'}"


def _read_all(values: Sequence[object], names: Sequence[str], classes: NodeClasses | None) -> list[Source]:
    """Return every workflow; an error names the file, where there are several."""
    sources = []
    for value, name in zip(values, names, strict=True):
        label = name if len(names) > 1 else None
        try:
            sources.append(_read(value, classes, label))
        except WorkerError as error:
            if label is None:
                raise
            message = f"{name}: {error.message}"
            raise type(error)(message, hint=error.hint, problems=error.problems, details=error.details) from error
    return sources


def _read(value: object, classes: NodeClasses | None, label: str | None) -> Source:
    if not is_gui_format(value):
        graph = read_workflow(value, path="workflow", check_links=False)
        return Source(graph, classes, listed_models=listed_in_graph(graph), label=label)
    done = convert_what_can_be(value, classes or NodeClasses({}))
    if not done.graph and done.problems:
        convert_gui(value, NodeClasses({}))  # raises what keeps it from being read at all
    return Source(done.graph, classes, done.listed_models, done.listed_packs, label)


def _not_looked_up(proposal: Proposal) -> Proposal:
    if not any(model.is_whole for model in proposal.models):
        return proposal
    return proposal.model_copy(update={"not_looked_up": (_NO_LOOK,)})


def _looked_up(proposal: Proposal, settings: Settings) -> Proposal:
    from comfyworker.provision.proposal.looking_up import look_up  # noqa: PLC0415  # the network, only where it is asked

    return run_to_end(lambda: look_up(proposal, settings.provision, settings.store))


def _json(proposal: Proposal, text: str) -> bytes:
    content = {**proposal.model_dump(mode="json"), "config_yml": text}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"
