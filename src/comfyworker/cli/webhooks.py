"""`comfyworker webhooks`: messages that are on disk since nobody has taken them yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, prepare, print_error
from comfyworker.jobs import JobError
from comfyworker.settings import Settings
from comfyworker.webhooks.outbox import Outbox, PendingMessage
from comfyworker.webhooks.retrying import retry_now

app = typer.Typer(help="Webhooks that have not been delivered yet.", no_args_is_help=True)

_FILE_WIDTH = 1000  # A file or a pipe has no width: whole lines serve whoever searches them.

_Ids = Annotated[list[str], typer.Argument(help="Ids of messages or of jobs.", metavar="ID…", show_default=False)]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON array on stdout.")]


@app.callback()
def _group() -> None:
    """Webhooks that have not been delivered yet."""  # shown as the group's help


@app.command(name="list")
def list_pending(*, as_json: _AsJson = False) -> None:
    """List the webhooks under STATE_DIR that are on their way, oldest first.

    Examples:
        comfyworker webhooks list
        comfyworker webhooks list --json
    """
    found = _pending(prepare(quiet_level="warning"))
    if as_json:
        typer.echo(orjson.dumps([_as_json(item) for item in found]))
        return
    if not found:
        _console(stderr=True).print("no webhook is on its way")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "event", "job", "to", "made", "next attempt", "bytes"):
        table.add_column(heading, overflow="fold")
    for item in found:
        about = item.envelope
        moments = (_moment(about.created_at), _moment(item.due_at))
        table.add_row(about.id, about.event.value, about.job_id, about.host, *moments, str(about.size_bytes))
    _console().print(table)


@app.command()
def retry(ids: _Ids = [], *, as_json: _AsJson = False) -> None:  # noqa: B006  # typer copies it
    """Send webhooks that are on their way once, now; those that are not taken stay.

    Without an id it is all of them. A worker that runs may be sending one itself: that one is left to it. Exit code 1
    when one was not delivered.

    Examples:
        comfyworker webhooks retry
        # Those of one job
        comfyworker webhooks retry my-job
    """
    settings = prepare(quiet_level="warning")
    chosen = _chosen(settings, ids, or_all=True)
    done = asyncio.run(retry_now(chosen, settings.webhook, allow_private_urls=settings.inputs.allow_private_urls))
    if as_json:
        typer.echo(orjson.dumps([{**_as_json(item.message), "outcome": item.outcome} for item in done]))
    else:
        for item in done:
            typer.echo(f"{item.message.envelope.id} {item.outcome}: {item.reason}")
    if not all(item.is_settled for item in done):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def drop(
    ids: _Ids = [],  # noqa: B006  # typer copies it
    *,
    every: Annotated[bool, typer.Option("--all", help="Drop every one.")] = False,
) -> None:
    """Give webhooks up that are on their way: nobody will be told.

    Examples:
        comfyworker webhooks drop my-job
        comfyworker webhooks drop --all
    """
    if bool(ids) == every:
        _console(stderr=True).print("give either ids or --all", style="red")
        raise typer.Exit(EXIT_USAGE)
    for item in _chosen(prepare(quiet_level="warning"), ids, or_all=every):
        item.path.unlink(missing_ok=True)
        typer.echo(f"{item.envelope.id} dropped")


def _pending(settings: Settings) -> list[PendingMessage]:
    return Outbox(settings.state.path / "webhooks").pending()


def _chosen(settings: Settings, ids: Sequence[str], *, or_all: bool) -> list[PendingMessage]:
    """Return the messages that are meant; an id that means none ends the command."""
    pending = _pending(settings)
    known = {name for item in pending for name in (item.envelope.id, item.envelope.job_id)}
    unknown = [name for name in ids if name not in known]
    if unknown:
        message = f"no webhook on its way has the id {', '.join(unknown)}, nor has its job"
        print_error(JobError(code="invalid_request", message=message, hint="`comfyworker webhooks list` has the ids."))
        raise typer.Exit(EXIT_FAILED)
    if or_all and not ids:
        return pending
    return [item for item in pending if {item.envelope.id, item.envelope.job_id} & set(ids)]


def _as_json(item: PendingMessage) -> dict[str, str | float | int]:
    about = item.envelope
    return {
        "id": about.id,
        "event": about.event.value,
        "job_id": about.job_id,
        "host": about.host,
        "created_at": about.created_at,
        "due_at": item.due_at,
        "size_bytes": about.size_bytes,
    }


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False)  # an address may hold brackets
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=_FILE_WIDTH)
