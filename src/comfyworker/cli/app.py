"""The command's groups, put together; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections import UserDict
from itertools import groupby
from typing import Any, Final, NamedTuple

import typer
import typer.main

from comfyworker._version import __version__
from comfyworker.cli.help import TaughtCommand, TaughtGroup
from comfyworker.importing import undisturbed


class Entry(NamedTuple):
    """A command of the first level; the summary is said here too, so that listing the commands imports none."""

    section: str
    place: str
    """Where it is: a function is a command, a `typer.Typer` a group of them."""
    summary: str


_RUN: Final = "Run jobs"
_SERVE: Final = "Serve jobs"
_LOOK: Final = "Look and find out"
_READY: Final = "Make ready"

COMMANDS: Final = {
    "run": Entry(_RUN, "comfyworker.cli.run:run", "Run a workflow here and save what it makes."),
    "handle": Entry(_RUN, "comfyworker.cli.handle:handle", "Answer one request as a platform would get it."),
    "test": Entry(_RUN, "comfyworker.cli.test:try_job", "Run a job as RunPod would run it, without RunPod."),
    "serve": Entry(_SERVE, "comfyworker.cli.serve:serve", "Serve RunPod's, Vast's and Comfy's APIs over HTTP."),
    "vast": Entry(_SERVE, "comfyworker.cli.vast:vast", "Be a worker of a serverless endpoint on Vast.ai."),
    "runpod": Entry(_SERVE, "comfyworker.cli.runpod:runpod", "Be a worker of a RunPod Serverless endpoint."),
    "start": Entry(_SERVE, "comfyworker.cli.start:start", "Run what fits where this is: a container's command."),
    "doctor": Entry(_LOOK, "comfyworker.cli.doctor:doctor", "Say what was found, and what to do about it."),
    "settings": Entry(_LOOK, "comfyworker.cli.settings:show_settings", "List every setting with its value and source."),
    "workflow": Entry(_LOOK, "comfyworker.cli.workflow:app", "Look at workflow files and change their format."),
    "storage": Entry(_LOOK, "comfyworker.cli.storage:app", "Try the object storage that outputs go to."),
    "webhooks": Entry(_LOOK, "comfyworker.cli.webhooks:app", "See to webhooks that have not been delivered yet."),
    "config": Entry(_READY, "comfyworker.cli.config:app", "config.yml: which models and custom nodes there are."),
    "models": Entry(_READY, "comfyworker.cli.models:app", "The model files on this machine."),
    "nodes": Entry(_READY, "comfyworker.cli.nodes:app", "ComfyUI's custom nodes."),
    "comfyui": Entry(_READY, "comfyworker.cli.comfyui:app", "The ComfyUI on this machine."),
}
"""The commands in the order of `--help`."""


class _Commands(UserDict[str, Any]):  # Any: typer's command classes are its own affair
    """The commands by name; one is imported when it is taken out, so that a server need not load what others need."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # as above
        command = super().__getitem__(name)
        if isinstance(command, Entry):
            command = self.data[name] = _load(name, command)
        return command


class _Group(TaughtGroup):
    """Has COMMANDS, whatever typer was told of."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # typer's own
        super().__init__(**given)
        self.commands = _Commands(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  # as above
        """Write the commands by their summaries; none is imported."""
        for section, entries in groupby(COMMANDS.items(), key=lambda item: item[1].section):
            with formatter.section(section):
                formatter.write_dl([(name, entry.summary) for name, entry in entries])


def _load(name: str, entry: Entry) -> Any:  # noqa: ANN401  # as above
    module, attribute = entry.place.split(":")
    with undisturbed():
        found = getattr(importlib.import_module(module), attribute)
    carrier = typer.Typer(add_completion=False, rich_markup_mode=None)
    carrier.callback()(_nothing)  # or typer would take a single command for all there is
    if isinstance(found, typer.Typer):
        for info in found.registered_commands:
            info.cls = TaughtCommand
        carrier.add_typer(found, name=name, cls=TaughtGroup)
    else:
        carrier.command(name=name, cls=TaughtCommand)(found)
    return typer.main.get_command(carrier).commands[name]  # type: ignore[attr-defined]  # with a callback, it is a group


def _nothing() -> None:
    pass


app = typer.Typer(
    name="comfyworker",
    cls=_Group,
    help="Turn a ComfyUI into a dependable API: run workflows on it, from here or from a platform.",
    no_args_is_help=True,
    rich_markup_mode=None,  # panels leave 17 columns of 80 for what an option does
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
