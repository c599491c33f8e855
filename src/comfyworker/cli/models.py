"""`comfyworker models`: the model files on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from comfyworker.cli.provisioning import conclude, locate, look_for_config, run_safely, say, usage, watch
from comfyworker.cli.running import fail, prepare
from comfyworker.comfyui.finding import format_bytes
from comfyworker.comfyui.model_kinds import core_folders, kind_of_folder
from comfyworker.errors import ComfyUINotFound, InvalidConfig, WorkerError
from comfyworker.jobs import JobError
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.provision.apply import Applied
from comfyworker.provision.config.destinations import WrongDestination, resolve_destination
from comfyworker.provision.download import Downloader, is_plain_filename
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.pull import Difference, compare_bucket, entries_of, pull_models, send_models
from comfyworker.provision.records import read_models
from comfyworker.provision.reporting import ProvisionReporter
from comfyworker.provision.stock import Prunable, Standing, StockedModel, find_prunable, list_stock, prune
from comfyworker.provision.verification import verify_models
from comfyworker.settings import Settings

app = typer.Typer(help="The model files on this machine.", no_args_is_help=True)

_SHA256_DIGITS = 64
_STYLES = {
    Standing.OURS: "",
    Standing.ADOPTED: "",
    Standing.CHANGED: "yellow",
    Standing.MISSING: "red",
    Standing.FOREIGN: "dim",
}
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.callback()
def _group() -> None:
    """The model files on this machine."""  # shown as the group's help


@app.command("list")
def list_models(*, as_json: _Json = False) -> None:
    """List the model files, with where the worker fetched them from.

    `foreign` is a file that somebody else put there, `changed` one of ours that is another now, `missing` one that is
    gone. A model that PREFETCH_MODELS has copied to this machine's disk is marked.

    Examples:
        comfyworker models list
        comfyworker models list --json | jq '.models[].place'
    """
    settings = prepare(quiet_level="error")
    place = locate(settings)
    models = _require_models(place)
    stock = list_stock(models, read_models(place.models_state), place.own_models)
    copied = _copied(stock, models, settings)
    if as_json:
        listed = [{**model.model_dump(mode="json"), "is_copied": model.place in copied} for model in stock]
        document = {"folder": str(models), "models": listed}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    _print_stock(stock, copied)
    total = sum(model.size_bytes or 0 for model in stock)
    say(f"{len(stock)} files, {format_bytes(total)}, in {models}")
    if copied:
        say(f"{len(copied)} of them copied to {settings.volume.local_cache_path}")


@app.command()
def pull(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="https, hf://, civitai.com, s3://bucket/key, r2://bucket/key, or a path."),
    ],
    *,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of ComfyUI's models, or one below it; read from the URL if it has it.",
            autocompletion=lambda: sorted(core_folders()),
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The file's name there; else its source's.")] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="What its content must have.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another file of that name.")] = False,
    as_json: _Json = False,
) -> None:
    r"""Fetch one model, whether or not a config asks for it; `prune` leaves it.

    Examples:
        comfyworker models pull \
            hf://stabilityai/sdxl-vae/sdxl_vae.safetensors --to vae
    """
    settings = prepare(quiet_level="error")
    place = locate(settings)
    entry = _entry(url, to, name, sha256)

    async def work(reporter: ProvisionReporter) -> Applied:
        return await pull_models([entry], place, settings.provision, settings.store, reporter=reporter, force=force)

    conclude(watch(work), as_json=as_json, what=entry.destination)


@app.command()
def verify(*, as_json: _Json = False) -> None:
    """Read every model that the worker fetched, and compare its SHA-256 with what it was then.

    Exit code 1 if one is another, or is gone.

    Examples:
        comfyworker models verify
    """
    place = locate(prepare(quiet_level="error"))
    models = _require_models(place)

    async def work(reporter: ProvisionReporter) -> Applied:
        state = await asyncio.to_thread(read_models, place.models_state)
        return await verify_models(tuple(state.models.values()), models, reporter, own=place.own_models)

    conclude(watch(work), as_json=as_json, what="models verified")


@app.command("prune")
def prune_models(
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them without asking.")] = False,
    as_json: _Json = False,
) -> None:
    """Remove models that the worker fetched for a config that does not ask for them any more, and broken downloads.

    Files that somebody else put there, and what `models pull` fetched, stay. On a volume that workers with other
    configs use, what those want is removed too, and fetched again by them.

    Examples:
        # Lists what would go, and asks
        comfyworker models prune
        comfyworker models prune --yes
    """
    settings = prepare(quiet_level="error")
    place = locate(settings)
    models = _require_models(place)
    found = look_for_config(settings, place, None)
    if found is None:  # or all would go, since nobody asks for any of it
        fail(
            JobError.of(
                InvalidConfig("there is no config.yml that says which models are wanted", hint="Write one first.")
            )
        )
    prunable = find_prunable(models, read_models(place.models_state), found.config.models)
    is_done = _remove(prunable, models, place, yes=yes, as_json=as_json)
    if as_json:
        document = {
            "removed": is_done,
            "size_bytes": prunable.size_bytes,
            "models": [model.model_dump(mode="json") for model in prunable.models],
            "leftovers": len(prunable.leftovers),
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


@app.command()
def sync(
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix or r2://bucket/prefix.")],
    *,
    to_bucket: Annotated[
        bool,
        typer.Option("--to-bucket/--from-bucket", help="Send what the bucket lacks, or fetch what is lacking here."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be brought, and bring nothing.")] = False,
    as_json: _Json = False,
) -> None:
    """Bring the models of a bucket that is laid out by model folder here, or the models of this machine there.

    Files of one place and size count as the same; nothing is removed on either side.

    Examples:
        comfyworker models sync s3://comfyui-models --dry-run
        comfyworker models sync r2://models/flux --to-bucket
    """
    settings = prepare(quiet_level="error")
    if not url.startswith(("s3://", "r2://")):
        usage("a bucket is named as s3://bucket/prefix or r2://bucket/prefix", "Give one of these.")
    place = locate(settings)
    models = _require_models(place)
    difference = run_safely(lambda: _compare(url, models, settings))
    if dry_run:
        _print_difference(difference, to_bucket=to_bucket, as_json=as_json)
        return

    async def work(reporter: ProvisionReporter) -> Applied:
        if to_bucket:
            async with Downloader(settings.provision, settings.store) as downloader:
                return await send_models(difference.to_send, url, downloader, reporter)
        entries = entries_of(difference.to_fetch)
        return await pull_models(entries, place, settings.provision, settings.store, reporter=reporter)

    conclude(watch(work), as_json=as_json, what=f"{url}, {difference.same} there already")


async def _compare(url: str, models: Path, settings: Settings) -> Difference:
    async with Downloader(settings.provision, settings.store) as downloader:
        return await compare_bucket(url, models, downloader)


def _entry(url: str, to: str | None, name: str | None, sha256: str | None) -> ModelEntry:
    destination = to if to is not None else _folder_in(url)
    if destination is None:
        usage("the URL does not say which folder the model belongs into", "Name it with --to, as --to checkpoints.")
    if name is not None and not is_plain_filename(name):
        usage(f"'{name}' is no name of a file", "Give the name alone; --to says the folder.")
    digest = sha256.lower().removeprefix("sha256:") if sha256 is not None else None
    if digest is not None and (len(digest) != _SHA256_DIGITS or set(digest) - set("0123456789abcdef")):
        usage("--sha256 takes 64 hexadecimal digits", "Copy them as the model's page has them.")
    try:
        return ModelEntry(url=url, destination=resolve_destination(destination), filename=name, sha256=digest)
    except WrongDestination as wrong:
        usage(f"--to {destination}: {wrong}", "ComfyUI's folders are checkpoints, loras, vae, diffusion_models, …")


def _folder_in(url: str) -> str | None:
    """Return the folder of ComfyUI that a URL's path names, as `…/split_files/vae/x.safetensors` does."""
    parts = url.partition("?")[0].split("/")[3:-1]
    return next((part for part in reversed(parts) if kind_of_folder(part) is not None), None)


def _require_models(place: ProvisionPlace) -> Path:
    try:
        return place.require_models()
    except ComfyUINotFound as error:
        fail(JobError.of(error))


def _remove(prunable: Prunable, models: Path, place: ProvisionPlace, *, yes: bool, as_json: bool) -> bool:
    console = Console(stderr=True, highlight=False)
    if not prunable.models and not prunable.leftovers:
        console.print("There is nothing to remove.")
        return False
    for model in prunable.models:
        console.print(Text(f"  {model.place}  {format_bytes(model.size_bytes or 0)}"), soft_wrap=True)
    if prunable.leftovers:
        console.print(f"  {len(prunable.leftovers)} broken downloads")
    console.print(f"{format_bytes(prunable.size_bytes)} in all")
    if not yes and (as_json or not typer.confirm("Remove them?", err=True)):
        return False
    try:
        prune(models, place.models_state, prunable)
    except WorkerError as error:
        fail(JobError.of(error))
    except OSError as error:
        fail(JobError(code="provisioning_failed", message=f"a model cannot be removed: {error.strerror}"))
    if not as_json:
        say(f"removed, {format_bytes(prunable.size_bytes)}")
    return True


def _copied(stock: tuple[StockedModel, ...], models: Path, settings: Settings) -> frozenset[str]:
    """Return the places of models that have a copy on the local disk."""
    if settings.volume.prefetch_mode != "copy":
        return frozenset()
    copies = LocalCopies(settings.volume.local_cache_path, most_bytes=settings.volume.local_cache_bytes)
    return copies.copied({model.place: models / model.place for model in stock})


def _print_stock(stock: tuple[StockedModel, ...], copied: frozenset[str]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    for model in stock:
        size = format_bytes(model.size_bytes) if model.size_bytes is not None else "-"
        style = _STYLES[model.standing]
        standing = f"{model.standing}, copied" if model.place in copied else model.standing
        table.add_row(Text(model.place, style=style), size, Text(standing, style=style), Text(model.source or ""))
    if stock:
        console.print(table)


def _print_difference(difference: Difference, *, to_bucket: bool, as_json: bool) -> None:
    if to_bucket:
        lines = [(place, path.stat().st_size) for place, path in difference.to_send]
    else:
        lines = [(f"{model.destination}/{model.filename}", model.size_bytes) for model in difference.to_fetch]
    if as_json:
        files = [{"place": place, "size_bytes": size} for place, size in lines]
        typer.echo(orjson.dumps({"files": files, "same": difference.same}, option=orjson.OPT_INDENT_2))
        return
    for place, size in lines:
        say(f"{'send ' if to_bucket else 'fetch'}  {place}  {format_bytes(size)}")
    say(f"{len(lines)} to bring, {format_bytes(sum(size for _, size in lines))}; {difference.same} are the same")
