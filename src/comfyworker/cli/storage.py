"""`comfyworker storage`: the object storage that outputs go to."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, fail, prepare, run_to_end
from comfyworker.delivery.store import ProbeStep, StoreLocation, Stores, check_store_settings, find_location, probe
from comfyworker.errors import WorkerError
from comfyworker.jobs import JobError
from comfyworker.settings import Settings

app = typer.Typer(help="The object storage that outputs go to.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The object storage that outputs go to."""  # shown as the group's help


@app.command()
def check(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False
) -> None:
    """Try the storage as a job would: write a tiny object, read it by the URL that an answer would have, remove it.

    Exit code 0 when all of it works, 1 when a step fails, 2 when no storage is configured.

    Examples:
        comfyworker storage check
        # Another bucket, with the same keys
        BUCKET_NAME=other comfyworker storage check --json
    """
    settings = prepare(quiet_level="error")
    try:
        check_store_settings(settings.store)
        location = find_location(settings.store)
    except WorkerError as error:
        fail(JobError.of(error))
    if location is None:
        _say_none(as_json=as_json)
        raise typer.Exit(EXIT_USAGE)
    steps = run_to_end(lambda: _probe(settings, location))
    if as_json:
        document = {"place": location.place, "steps": [step.model_dump(mode="json") for step in steps]}
        typer.echo(orjson.dumps(document))
    else:
        _print_steps(location, steps)
    if not all(step.is_ok for step in steps):
        raise typer.Exit(EXIT_FAILED)


async def _probe(settings: Settings, location: StoreLocation) -> tuple[ProbeStep, ...]:
    async with Stores(settings.store, allow_private_urls=settings.inputs.allow_private_urls) as stores:
        return await probe(stores, location)


def _say_none(*, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps({"place": None, "steps": []}))
    console = Console(stderr=True, highlight=False)
    console.print("no object storage is configured: answers hold their files as base64")
    console.print(Text.assemble(("hint ", "bold cyan"), "Set BUCKET_ENDPOINT_URL, BUCKET_NAME and the keys."))


def _print_steps(location: StoreLocation, steps: tuple[ProbeStep, ...]) -> None:
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal
    console.print(Text(location.place, style="bold"))
    for step in steps:
        mark, style = ("✓", "green") if step.is_ok else ("✗", "red")
        console.print(Text.assemble((f"{mark} ", style), step.message, (f"  {step.took_s * 1000:.0f} ms", "dim")))
        if step.hint:
            console.print(Text(f"  → {step.hint}", style=style))
