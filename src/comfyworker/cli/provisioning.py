"""What the commands that make a machine ready share: where things go, which config applies, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import NoReturn, TypeVar

import orjson
import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.provision_progress import ProvisionView
from comfyworker.cli.running import EXIT_FAILED, fail, print_error, run_to_end
from comfyworker.errors import InvalidConfig, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.apply import Applied, raise_failures
from comfyworker.provision.config.finding import ConfigOrigin, FoundConfig, find_config, read_config
from comfyworker.provision.place import ProvisionPlace, find_place
from comfyworker.provision.reporting import ItemStatus, ProvisionReporter
from comfyworker.settings import Settings

INTERRUPTED = "interrupted: what was done is noted; the same command goes on where it stopped"
_T = TypeVar("_T")


def locate(settings: Settings) -> ProvisionPlace:
    """Return where models and custom nodes go; ends the command where that cannot be told."""
    try:
        return find_place(settings.comfyui, settings.volume, cwd=Path.cwd())
    except WorkerError as error:
        fail(JobError.of(error))


def require_config(settings: Settings, place: ProvisionPlace | None, file: Path | None) -> FoundConfig:
    """Return the config that applies, or the one in `file`; ends the command if there is none, or it is wrong."""
    found = look_for_config(settings, place, file)
    if found is None:
        fail(
            JobError.of(
                InvalidConfig(
                    "there is no config.yml: not in CONFIG_YML, nor on the volume, nor here",
                    hint="Write one (docs/reference/config-yml.md says what it holds), or name one with --file.",
                )
            )
        )
    return found


def look_for_config(settings: Settings, place: ProvisionPlace | None, file: Path | None) -> FoundConfig | None:
    """Return the config that applies, or the one in `file`; None if there is none. A wrong one ends the command."""
    try:
        if file is not None:
            return read_config(file.expanduser().absolute(), ConfigOrigin.NAMED)
        volume = place.volume if place is not None else None
        return find_config(settings.provision, volume=volume, cwd=Path.cwd())
    except WorkerError as error:
        fail(JobError.of(error))


def watch(work: Callable[[ProvisionReporter], Coroutine[object, object, _T]]) -> _T:
    """Run `work` and show how far it is; an error, or Ctrl-C, ends the command."""

    async def main() -> _T:
        with ProvisionView() as view:
            return await work(view)

    return run_safely(main)


def run_safely(main: Callable[[], Coroutine[object, object, _T]]) -> _T:
    """Run `main` in an event loop; an error, or Ctrl-C, ends the command."""
    try:
        return run_to_end(main, farewell=INTERRUPTED)
    except WorkerError as error:
        fail(JobError.of(error))


def conclude(applied: Applied, *, as_json: bool, what: str) -> None:
    """Print what came of it; ends the command with 1 if something that is required failed."""
    if as_json:
        typer.echo(orjson.dumps(applied_as_json(applied), option=orjson.OPT_INDENT_2))
    else:
        _print_applied(applied, what)
    try:
        raise_failures(applied.results)
    except WorkerError as error:
        if not as_json:
            print_error(JobError.of(error))
        raise typer.Exit(EXIT_FAILED) from error


def applied_as_json(applied: Applied) -> dict[str, object]:
    """Return what came of applying a config, for programs."""
    return {
        "unchanged": applied.is_unchanged,
        "nodes_changed": applied.has_changed_nodes,
        "seconds": round(applied.seconds, 3),
        "items": [
            {
                "kind": result.item.kind,
                "key": result.item.key,
                "title": result.item.title,
                "optional": result.item.optional,
                "size_bytes": result.item.size_bytes,
                "status": result.status,
                "fetched_bytes": result.fetched_bytes,
                "seconds": round(result.seconds, 3),
                "error": result.error.model_dump(mode="json", exclude_none=True) if result.error else None,
            }
            for result in applied.results
        ],
    }


def say(text: str, *, style: str = "") -> None:
    """Print a line of the command's result."""
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal
    console.print(Text(text, style=style))


def usage(message: str, hint: str) -> NoReturn:
    """End the command, since it was called wrongly."""
    fail(JobError(code="invalid_request", message=message, hint=hint), code=2)


def _print_applied(applied: Applied, what: str) -> None:
    if applied.is_unchanged:
        say(f"{what}: all is there already")
        return
    counts = {
        "done": sum(result.status is ItemStatus.DONE for result in applied.results),
        "there already": sum(result.status is ItemStatus.PRESENT for result in applied.results),
        "failed": len(applied.failed_required),
        "optional and failed": len(applied.failed) - len(applied.failed_required),
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    say(f"{what}: {told}, {applied.seconds:.1f} s")
    for result in applied.failed:
        if result.item.optional and result.error is not None:
            say(f"  optional, tried again next time: {result.item.title}: {result.error.message}", style="yellow")
    if applied.lock_path is not None:
        say(f"  {applied.lock_path.name} says what it became")


def say_restart(applied: Applied, settings: Settings) -> None:
    """Tell on stderr who starts ComfyUI anew, if its custom nodes have changed."""
    if not applied.has_changed_nodes:
        return
    if settings.comfyui.api_urls:
        text = "Custom nodes have changed: restart the ComfyUI of COMFY_API_URL, which loads them only when it starts."
    else:
        text = "Custom nodes have changed: a worker that runs starts its ComfyUI anew once no job is on it."
    Console(stderr=True, highlight=False).print(Text(text))
