"""`comfyworker nodes`: ComfyUI's custom nodes."""

from __future__ import annotations

import re
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from comfyworker.cli.provisioning import conclude, locate, look_for_config, say, say_restart, usage, watch
from comfyworker.cli.running import fail, prepare
from comfyworker.comfyui.locate import Installation
from comfyworker.errors import ComfyUINotFound
from comfyworker.jobs import JobError
from comfyworker.provision.apply import Applied
from comfyworker.provision.entries import LATEST, NodeEntry
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.pull import install_node
from comfyworker.provision.reporting import ProvisionReporter
from comfyworker.provision.shelves import ShelvedNode, list_nodes

app = typer.Typer(help="ComfyUI's custom nodes.", no_args_is_help=True)

_REGISTERED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:@([\w.+-]+))?$")
_REPOSITORY = re.compile(r"^((?:https?|ssh|file|git)://\S+?|git@\S+?|\.{0,2}/\S+?)(?:@([\w./+-]+))?$")
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.callback()
def _group() -> None:
    """ComfyUI's custom nodes."""  # shown as the group's help


@app.command("list")
def list_all(*, as_json: _Json = False) -> None:
    """List the custom nodes that ComfyUI loads: those of the worker with their versions, and others.

    Examples:
        comfyworker nodes list
        comfyworker nodes list --json
    """
    installation = _require(locate(prepare(quiet_level="error")))
    nodes = list_nodes(installation)
    if as_json:
        document = {"nodes": [node.model_dump(mode="json") for node in nodes]}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    _print_nodes(nodes)
    say(f"{len(nodes)} custom nodes of ComfyUI {installation.version or 'of an unknown version'}")


@app.command()
def install(
    node: Annotated[
        str,
        typer.Argument(
            metavar="URL|NAME", help="Git repository, or name in the Comfy Registry; `@version` may follow."
        ),
    ],
    *,
    check: Annotated[bool, typer.Option(help="Start ComfyUI once to see whether it loads.")] = True,
    as_json: _Json = False,
) -> None:
    r"""Install one custom node with the packages that it needs, whether or not a config asks for it.

    A later `comfyworker config apply` leaves it.

    Examples:
        # From the Comfy Registry
        comfyworker nodes install comfyui-kjnodes@1.0.5
        # From git
        comfyworker nodes install \
            https://github.com/kijai/ComfyUI-KJNodes@nightly
    """
    settings = prepare(quiet_level="error")
    place = locate(settings)
    _require(place)
    entry = _entry(node)
    found = look_for_config(settings, place, None)
    pip = found.config.pip if found else ()

    async def work(reporter: ProvisionReporter) -> Applied:
        return await install_node(entry, place, settings.provision, reporter=reporter, pip=pip, checks_imports=check)

    applied = watch(work)
    say_restart(applied, settings)
    conclude(applied, as_json=as_json, what=node)


def _entry(written: str) -> NodeEntry:
    """Return what an argument names: `name@version`, or `URL@version`."""
    repository = _REPOSITORY.match(written)
    if repository is not None:
        return NodeEntry(url=repository.group(1), version=repository.group(2) or LATEST)
    registered = _REGISTERED.match(written)
    if registered is None:
        usage(
            f"'{written}' is neither a git repository nor a name", "As https://github.com/… or comfyui-kjnodes@1.0.5."
        )
    return NodeEntry(name=registered.group(1), version=registered.group(2) or LATEST)


def _require(place: ProvisionPlace) -> Installation:
    try:
        return place.require_installation()
    except ComfyUINotFound as error:
        fail(JobError.of(error))


def _print_nodes(nodes: tuple[ShelvedNode, ...]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    for node in nodes:
        style = "dim" if not node.is_ours else "" if node.is_good else "red"
        state = "of others" if not node.is_ours else "good" if node.is_good else "does not load"
        table.add_row(Text(node.folder), Text(node.version or ""), Text(state, style=style), Text(node.source or ""))
    if nodes:
        console.print(table)
