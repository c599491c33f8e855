"""The models of a config.yml: looked at, fetched, and noted one by one as each is whole."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from comfyworker.errors import DownloadFailed, InsufficientStorage, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.download import Download, Downloader, Receipt, free_bytes, hash_file, link_known, plain_url
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.plan import PlannedModel, Verdict, check_room
from comfyworker.provision.records import (
    MODELS_NAME,
    ModelRecord,
    ModelsState,
    Wish,
    key_of,
    read_models,
    read_provisioned,
    write_note,
)
from comfyworker.provision.reporting import Item, ItemResult, ItemStatus, ProvisionReporter


class ModelWork:
    """Makes models true below one models folder."""

    def __init__(
        self,
        place: ProvisionPlace,
        downloader: Downloader,
        reporter: ProvisionReporter,
        *,
        wish: Wish = Wish.CONFIG,
        force: bool = False,
    ) -> None:
        """Work where models go, and note what was done and why (`wish`).

        Only with `force` another's file is replaced; none is in ComfyUI's own models folder, if that is another.

        Raises:
            ComfyUINotFound: there is nowhere to put models.
        """
        self._models = place.require_models()
        self._own = place.own_models
        self._force = force
        self._folder = place.models_state
        self._downloader = downloader
        self._reporter = reporter
        self._wish = wish
        self._writing = asyncio.Lock()
        self._same: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._fetched: dict[str, tuple[Path, Receipt]] = {}

    async def carry_out(self, planned: Sequence[PlannedModel], arrivals: Arrivals) -> list[ItemResult]:
        """Do what is to be done, many at once; what fails is in the results, and all others are finished.

        Raises:
            InsufficientStorage: the disk has no room for all that is required; nothing was begun.
        """
        over = check_room(planned, await asyncio.to_thread(free_bytes, self._models))
        results: list[ItemResult] = []

        async def do(model: PlannedModel) -> None:
            result = await self._one(model, is_over=model in over)
            arrivals.ended(model.number, result.error)
            self._reporter.ended(result)
            results.append(result)

        async with asyncio.TaskGroup() as group:
            for model in planned:
                group.create_task(do(model), name=f"model {model.place}")
        return results

    async def _one(self, model: PlannedModel, *, is_over: bool) -> ItemResult:
        item, begun_at = model.item(), time.monotonic()
        if model.verdict is Verdict.PRESENT:
            return ItemResult(item=item, status=ItemStatus.PRESENT)
        error = model.error
        if is_over:
            no_room = InsufficientStorage(f"the disk has no room for {model.place}, which is optional")
            error = JobError.of(no_room)
        if error is not None:
            return ItemResult(item=item, status=ItemStatus.FAILED, error=error)
        self._reporter.begun(item)
        try:
            receipt, is_there = await self._bring(model, item)
            await self._note(model, receipt, is_there=is_there)
        except WorkerError as failure:
            status, error, fetched = ItemStatus.FAILED, JobError.of(failure), 0
        else:
            status, fetched = ItemStatus.DONE, receipt.fetched_bytes
        return ItemResult(
            item=item, status=status, error=error, seconds=time.monotonic() - begun_at, fetched_bytes=fetched
        )

    async def _bring(self, model: PlannedModel, item: Item) -> tuple[Receipt, bool]:
        """Return the receipt of the file once it is there, and whether it was there already."""
        if model.verdict is Verdict.ADOPT:
            adopted = await self._adopt(model, item)
            if adopted is not None:
                return adopted, True
        # One of equal files is fetched; the others wait for it, and are linked.
        same = model.sha256 or plain_url(model.entry.url)
        async with self._same[same]:
            receipt = await self._link(model, self._fetched.get(same)) or await self._downloader.fetch(
                self._download(model), on_bytes=partial(self._reporter.fetched, item)
            )
            self._fetched[same] = (self._models / model.place, receipt)
        return receipt, False

    async def _adopt(self, model: PlannedModel, item: Item) -> Receipt | None:
        """Return a receipt for the file that lies there, if it is the one that is wanted; None if it is to be fetched.

        Raises:
            DownloadFailed: it is somebody's own, and another one.
        """
        path = (self._own or self._models if model.is_baked_in else self._models) / model.place
        self._reporter.stepped(item, "looking at the file that is there")
        try:
            found = path.stat()
            digest = await hash_file(path)
        except OSError as error:
            raise DownloadFailed(
                f"{model.place}: the file that is there cannot be read: {error.strerror or type(error).__name__}",
                hint="Look at its owner and rights.",
            ) from error
        if model.sha256 not in (None, digest):
            if model.is_baked_in:
                raise shadowing(model.place)
            if model.known is not None or self._force:
                return None
            raise foreign(model.place)
        return Receipt(
            url=plain_url(model.entry.url), filename=path.name, size_bytes=found.st_size, sha256=digest,
            mtime_ns=found.st_mtime_ns, etag=model.etag,
        )  # fmt: skip

    async def _link(self, model: PlannedModel, fetched: tuple[Path, Receipt] | None) -> Receipt | None:
        sha256 = model.sha256 or (fetched[1].sha256 if fetched else None)
        if sha256 is None:
            return None
        state = await asyncio.to_thread(read_models, self._folder)
        known = [(record.path(self._models, self._own), record.receipt) for record in state.models.values()]
        if fetched is not None:
            known.append(fetched)
        return await link_known(self._download(model), filename=model.filename, sha256=sha256, known=known)

    async def _note(self, model: PlannedModel, receipt: Receipt, *, is_there: bool) -> None:
        is_baked_in = is_there and model.is_baked_in
        record = ModelRecord(
            key=key_of(model.entry), place=model.place, receipt=receipt, wish=self._wish,
            is_adopted=is_there and (model.known is None or is_baked_in), is_baked_in=is_baked_in,
        )  # fmt: skip
        async with self._writing:
            await asyncio.to_thread(add_model, self._folder, record)

    def _download(self, model: PlannedModel) -> Download:
        return download_of(model.entry, self._models, filename=model.filename, sha256=model.pinned_sha256)


def download_of(entry: ModelEntry, models: Path, *, filename: str | None = None, sha256: str | None = None) -> Download:
    """Return what an entry is to the downloader."""
    return Download(
        url=entry.url, folder=models / entry.destination, filename=filename or entry.filename,
        sha256=sha256 or entry.sha256, size_bytes=entry.size_bytes,
    )  # fmt: skip


def add_model(folder: Path, record: ModelRecord) -> None:
    """Note a model; what others have noted since is kept. Blocks.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be noted.
    """
    write_note(folder / MODELS_NAME, read_provisioned(folder).with_model(record))


def finish_models(folder: Path, digest: str) -> None:
    """Note that all models of the config with this digest are there. Blocks.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be noted.
    """
    state: ModelsState = read_provisioned(folder)
    if state.config_sha256 != digest:
        write_note(folder / MODELS_NAME, state.model_copy(update={"config_sha256": digest}))


def foreign(place: str) -> DownloadFailed:
    """Return the error for a file of somebody's own where a model shall go."""
    return DownloadFailed(
        f"{place}: another file of this name is there, which was not made by the worker",
        hint="It is left as it is. Rename or remove it, give the model a `filename`, or apply with --force, which "
        "replaces it.",
        details={"reason": "foreign_file"},
    )


def shadowing(place: str) -> DownloadFailed:
    """Return the error for another file in ComfyUI's own models folder, where it looks before it looks elsewhere."""
    return DownloadFailed(
        f"{place}: ComfyUI has another file of this name in its own models folder, and takes that one",
        hint="Give the model another `filename`, or remove that file, from the image if it came with one.",
        details={"reason": "foreign_file"},
    )
