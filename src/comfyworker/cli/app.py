"""The command's groups, put together."""

from __future__ import annotations

import typer

from comfyworker._version import __version__
from comfyworker.cli.comfyui import app as comfyui_app
from comfyworker.cli.doctor import doctor
from comfyworker.cli.handle import handle
from comfyworker.cli.run import run
from comfyworker.cli.serve import serve
from comfyworker.cli.settings import show_settings
from comfyworker.cli.storage import app as storage_app
from comfyworker.cli.webhooks import app as webhooks_app
from comfyworker.cli.workflow import app as workflow_app

app = typer.Typer(
    name="comfyworker",
    help="Turn a ComfyUI into a dependable API: run workflows on it, from here or from a platform.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
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


app.command(name="run")(run)
app.command(name="handle")(handle)
app.command(name="serve")(serve)
app.command(name="doctor")(doctor)
app.command(name="settings")(show_settings)
app.add_typer(workflow_app, name="workflow")
app.add_typer(storage_app, name="storage")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(comfyui_app, name="comfyui")
