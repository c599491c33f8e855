"""Models and custom nodes that somebody asks for by a command, beside any config."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from comfyworker.errors import WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.apply import Applied
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.download import BucketModel, Downloader
from comfyworker.provision.entries import Config, ModelEntry, NodeEntry
from comfyworker.provision.inspection import ModelInspection
from comfyworker.provision.models import ModelWork
from comfyworker.provision.nodes import NodePacks
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.packs import NodeWork
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.records import Wish, read_models
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus, ProvisionReporter
from comfyworker.provision.sharing import MODELS_LEASE, NODES_LEASE, alone
from comfyworker.provision.stock import local_models
from comfyworker.settings import ProvisionSettings, StoreSettings


class Difference(BaseModel):
    """What a bucket and a models folder do not have in common."""

    model_config = ConfigDict(frozen=True)

    to_fetch: tuple[BucketModel, ...] = ()
    to_send: tuple[tuple[str, Path], ...] = ()
    """Place below the models folder, and the file."""
    same: int = 0
    """How many files are in both, of the same size."""


async def pull_models(
    entries: Sequence[ModelEntry],
    place: ProvisionPlace,
    settings: ProvisionSettings,
    store: StoreSettings,
    *,
    reporter: ProvisionReporter,
    force: bool = False,
) -> Applied:
    """Bring models that no config asks for; only a person takes them away again.

    Raises:
        ComfyUINotFound: there is nowhere to put models.
        InsufficientStorage: the disk has no room for all of them; none was begun.
        ProvisioningFailed: what was done cannot be noted.
    """
    place.require_models()

    async def work(reporter: ProvisionReporter) -> Applied:
        begun_at, arrivals = time.monotonic(), Arrivals(entries)
        async with Downloader(settings, store) as downloader:
            state = await asyncio.to_thread(read_models, place.models_state)
            inspection = ModelInspection(
                place, state, downloader, options=ApplyOptions(force=force), lock=None, arrivals=arrivals
            )
            planned = await inspection.plan(entries)
            reporter.planned([model.item() for model in planned])
            models = ModelWork(place, downloader, reporter, wish=Wish.HAND, force=force)
            results = await models.carry_out(planned, arrivals)
        return Applied(results=tuple(results), seconds=time.monotonic() - begun_at)

    return await alone(place.models_state / MODELS_LEASE, reporter, work)


async def install_node(
    entry: NodeEntry,
    place: ProvisionPlace,
    settings: ProvisionSettings,
    *,
    reporter: ProvisionReporter,
    pip: Sequence[str] = (),
    checks_imports: bool = True,
) -> Applied:
    """Install a custom node that no config asks for; only a person takes it away again.

    Args:
        entry: Which one.
        place: Where ComfyUI is.
        settings: How it is fetched.
        reporter: Who is told how far it is.
        pip: The config's own packages, which must go with it.
        checks_imports: Start ComfyUI once to see whether it loads.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        ProvisioningFailed: what was done cannot be noted.
    """
    installation = place.require_installation()
    config, options = Config(nodes=(entry,), pip=tuple(pip)), ApplyOptions(force=True, checks_imports=checks_imports)

    async def work(reporter: ProvisionReporter) -> Applied:
        begun_at = time.monotonic()
        packs = NodePacks(installation, settings, reporter)
        nodes = NodeWork(installation, packs, reporter, options=options, wish=Wish.HAND)
        plan = await nodes.plan(config, None)
        reporter.planned(plan.items())
        results, has_changed = await nodes.carry_out(config, plan)
        seconds = time.monotonic() - begun_at
        return Applied(results=tuple(results), has_changed_nodes=has_changed, seconds=seconds)

    return await alone((place.nodes_state or installation.base_dir) / NODES_LEASE, reporter, work)


async def compare_bucket(url: str, models: Path, downloader: Downloader) -> Difference:
    """Return what a bucket that is laid out by model folder has and a models folder has not, and the other way round.

    Files of one place and size count as the same.

    Raises:
        DownloadFailed: the bucket cannot be listed.
    """
    listed = [model for model in await downloader.list_bucket(url) if _is_below(model.destination)]
    there = {f"{model.destination}/{model.filename}": model for model in listed}
    here = {place: path for place, path in await asyncio.to_thread(local_models, models) if "/" in place}
    sizes = {place: path.stat().st_size for place, path in here.items()}
    return Difference(
        to_fetch=tuple(model for place, model in there.items() if sizes.get(place) != model.size_bytes),
        to_send=tuple(
            (place, path)
            for place, path in here.items()
            if place not in there or there[place].size_bytes != sizes[place]
        ),
        same=sum(1 for place, model in there.items() if sizes.get(place) == model.size_bytes),
    )


def entries_of(found: Sequence[BucketModel]) -> tuple[ModelEntry, ...]:
    """Return models in a bucket as entries of a config."""
    return tuple(
        ModelEntry(url=model.url, destination=model.destination, filename=model.filename, size_bytes=model.size_bytes)
        for model in found
    )


async def send_models(
    files: Sequence[tuple[str, Path]], url: str, downloader: Downloader, reporter: ProvisionReporter
) -> Applied:
    """Bring files of a models folder into a bucket, below what `s3://bucket/prefix` names, each at its place."""
    begun_at = time.monotonic()
    items = {place: _item(place, path) for place, path in files}
    reporter.planned(list(items.values()))
    results: list[ItemResult] = []

    async def send(item: Item, path: Path) -> None:
        reporter.begun(item)
        error: JobError | None = None
        try:
            target = f"{url.rstrip('/')}/{quote(item.key, safe='/~')}"
            await downloader.upload(path, target, on_bytes=partial(reporter.fetched, item))
        except WorkerError as failure:
            error = JobError.of(failure)
        status = ItemStatus.FAILED if error else ItemStatus.DONE
        result = ItemResult(item=item, status=status, error=error, fetched_bytes=0 if error else item.size_bytes or 0)
        reporter.ended(result)
        results.append(result)

    async with asyncio.TaskGroup() as group:
        for place, path in files:
            group.create_task(send(items[place], path), name=f"send {place}")
    return Applied(results=tuple(results), seconds=time.monotonic() - begun_at)


def _item(place: str, path: Path) -> Item:
    return Item(key=place, kind=ItemKind.MODEL, title=place, size_bytes=path.stat().st_size)


def _is_below(destination: str) -> bool:
    """Tell whether a folder that a bucket names is one below the models folder; keys may hold anything."""
    parts = PurePosixPath(destination).parts
    return bool(parts) and not any(part in {"/", ".."} or part.startswith(".") or "\\" in part for part in parts)
