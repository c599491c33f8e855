"""The command's groups, put together; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperGroup

from comfyworker._version import __version__
from comfyworker.importing import undisturbed

COMMANDS = {
    "run": "comfyworker.cli.run:run",
    "handle": "comfyworker.cli.handle:handle",
    "serve": "comfyworker.cli.serve:serve",
    "vast": "comfyworker.cli.vast:vast",
    "runpod": "comfyworker.cli.runpod:runpod",
    "start": "comfyworker.cli.start:start",
    "test": "comfyworker.cli.test:try_job",
    "doctor": "comfyworker.cli.doctor:doctor",
    "settings": "comfyworker.cli.settings:show_settings",
    "workflow": "comfyworker.cli.workflow:app",
    "storage": "comfyworker.cli.storage:app",
    "webhooks": "comfyworker.cli.webhooks:app",
    "config": "comfyworker.cli.config:app",
    "models": "comfyworker.cli.models:app",
    "nodes": "comfyworker.cli.nodes:app",
    "comfyui": "comfyworker.cli.comfyui:app",
}
"""Where each command is, in the order of `--help`: a function is a command, a `typer.Typer` a group of them."""

_MARKUP: Final = "markdown"


class _Commands(UserDict[str, Any]):  # Any: typer's command classes are its own affair
    """The commands by name; one is imported when it is taken out, so that a server need not load what others need."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # as above
        command = super().__getitem__(name)
        if isinstance(command, str):
            command = self.data[name] = _load(name, command)
        return command


class _Group(TyperGroup):
    """Has COMMANDS, whatever typer was told of."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # typer's own
        super().__init__(**given)
        self.commands = _Commands(COMMANDS)


def _load(name: str, place: str) -> Any:  # noqa: ANN401  # as above
    module, attribute = place.split(":")
    with undisturbed():
        found = getattr(importlib.import_module(module), attribute)
    carrier = typer.Typer(add_completion=False, rich_markup_mode=_MARKUP)
    carrier.callback()(_nothing)  # or typer would take a single command for all there is
    if isinstance(found, typer.Typer):
        carrier.add_typer(found, name=name)
    else:
        carrier.command(name=name)(found)
    return typer.main.get_command(carrier).commands[name]  # type: ignore[attr-defined]  # with a callback, it is a group


def _nothing() -> None:
    pass


app = typer.Typer(
    name="comfyworker",
    cls=_Group,
    help="Turn a ComfyUI into a dependable API: run workflows on it, from here or from a platform.",
    no_args_is_help=True,
    rich_markup_mode=_MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(*, is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"comfyworker {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: bool = typer.Option(  # its callback does the work
        False,
        "--version",
        "-V",
        callback=lambda value: _print_version(is_asked=value),
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    pass
