"""What is there of a config's models, and what their sources say of the rest; nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from comfyworker.errors import WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.download import Downloader, Remote, kept_bytes
from comfyworker.provision.entries import ModelEntry, likely_name
from comfyworker.provision.lockfile import LockFile
from comfyworker.provision.models import download_of, foreign, shadowing
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.plan import PlannedModel, Verdict, silent_host
from comfyworker.provision.records import ModelRecord, ModelsState, key_of
from comfyworker.provision.state import still_there

_PROBES = 16
_UNFINISHED = (".aria2", ".part", ".crdownload", ".download")
"""What other tools leave beside a file that they have not finished."""
_BAKED_IN = "ComfyUI has it in its own models folder"


class ModelInspection:
    """Looks at models, and asks their sources, many at once."""

    def __init__(
        self,
        place: ProvisionPlace,
        state: ModelsState,
        downloader: Downloader,
        *,
        options: ApplyOptions,
        lock: LockFile | None,
        arrivals: Arrivals,
    ) -> None:
        """Look where models go, and in ComfyUI's own folder if that is another; a lock file pins what is wanted.

        Raises:
            ComfyUINotFound: there is nowhere to put models.
        """
        self._models = place.require_models()
        self._own = place.own_models
        self._state = state
        self._downloader = downloader
        self._options = options
        self._lock = lock
        self._arrivals = arrivals
        self._asking = asyncio.Semaphore(_PROBES)
        self._silent: dict[str, WorkerError] = {}

    async def plan(self, entries: Sequence[ModelEntry]) -> tuple[PlannedModel, ...]:
        """Return what is to be done about each entry; of entries that are the same, about the first."""
        wanted = [self._lock.pin_model(entry) if self._lock else entry for entry in entries]
        records = [self._record(entry, pinned) for entry, pinned in zip(entries, wanted, strict=True)]
        found = [record for record in records if record is not None]
        looks = await asyncio.to_thread(still_there, found, self._models, self._own)
        there = {record.place for record, is_there in zip(found, looks, strict=True) if is_there}
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._look(number, entry, wanted[number], records[number], there))
                for number, entry in enumerate(entries)
            ]
        return self._without_doubles([task.result() for task in tasks])

    def _record(self, entry: ModelEntry, pinned: ModelEntry) -> ModelRecord | None:
        record = self._state.find(entry)
        return record if record is not None and record.serves(pinned) else None

    async def _look(
        self, number: int, entry: ModelEntry, wanted: ModelEntry, record: ModelRecord | None, there: set[str]
    ) -> PlannedModel:
        if record is not None and record.place in there and not self._options.force:
            self._arrivals.named(number, record.place)
            self._arrivals.ended(number)
            receipt = record.receipt
            return PlannedModel(
                verdict=Verdict.PRESENT, number=number, entry=entry, place=record.place, known=receipt,
                size_bytes=receipt.size_bytes, sha256=receipt.sha256, is_baked_in=record.is_baked_in,
                reason=_BAKED_IN if record.is_baked_in else "",
            )  # fmt: skip
        try:
            remote = await self._ask(wanted)
        except WorkerError as error:
            planned = await asyncio.to_thread(self._without_source, number, entry, wanted, record, error)
        else:
            place = f"{entry.destination}/{remote.filename}"
            self._arrivals.named(number, place)
            planned = await asyncio.to_thread(self._judge, number, entry, wanted, place, remote)
        return planned

    async def _ask(self, wanted: ModelEntry) -> Remote:
        """Return what a model's source says; where hosts are asked briefly, one that did not answer is not asked again.

        Raises:
            DownloadFailed: it cannot be had.
        """
        host = urlsplit(wanted.url).netloc
        async with self._asking:
            if host in self._silent:
                raise self._silent[host]
            try:
                return await self._downloader.probe(download_of(wanted, self._models))
            except WorkerError as error:
                if self._options.asks_briefly and host and silent_host(JobError.of(error)):
                    self._silent[host] = error
                raise

    def _without_source(
        self, number: int, entry: ModelEntry, wanted: ModelEntry, record: ModelRecord | None, error: WorkerError
    ) -> PlannedModel:
        """Take what lies there where the config itself says how to know that it is right; else there is no telling."""
        name = record.receipt.filename if record else wanted.filename or likely_name(entry.url) or _last_part(entry.url)
        place = f"{entry.destination}/{name}"
        sha256 = wanted.sha256 or (record.receipt.sha256 if record else None)
        is_there = (self._models / place).is_file()
        is_baked_in = not is_there and self._baked(place) is not None
        verdict = Verdict.ADOPT if (is_there or is_baked_in) and sha256 is not None else Verdict.UNKNOWN
        return PlannedModel(
            verdict=verdict, number=number, entry=entry, place=place, sha256=sha256, size_bytes=wanted.size_bytes,
            known=record.receipt if record else None, is_baked_in=is_baked_in and verdict is Verdict.ADOPT,
            error=JobError.of(error) if verdict is Verdict.UNKNOWN else None,
        )  # fmt: skip

    def _judge(self, number: int, entry: ModelEntry, wanted: ModelEntry, place: str, remote: Remote) -> PlannedModel:
        path, ours = self._models / place, self._state.models.get(place)
        size = wanted.size_bytes if wanted.size_bytes is not None else remote.size_bytes
        sha256 = wanted.sha256 or remote.sha256 or _unchanged_hash(ours, entry, remote)
        planned = PlannedModel(
            verdict=Verdict.FETCH, number=number, entry=entry, place=place, size_bytes=size, sha256=sha256,
            pinned_sha256=wanted.sha256, etag=remote.etag, known=ours.receipt if ours else None,
        )  # fmt: skip
        there = path.stat().st_size if path.is_file() else None
        baked = self._baked(place)
        if there is None and baked is not None:
            return self._baked_in(planned, baked)
        if there is None or _is_unfinished(path):
            return self._linked_or_fetched(planned)
        if size is None and sha256 is None and ours is None and not self._options.force:
            return planned.model_copy(update={"verdict": Verdict.UNKNOWN, "error": JobError.of(foreign(place))})
        is_same = there == size if size is not None else sha256 is not None
        if is_same and (sha256 is not None or ours is None):
            reason = "it is there already" if ours is None else "it is looked at again"
            return planned.model_copy(update={"verdict": Verdict.ADOPT, "reason": reason})
        if ours is None and size is not None and there >= size and not self._options.force:
            return planned.model_copy(update={"verdict": Verdict.UNKNOWN, "error": JobError.of(foreign(place))})
        reason = f"what is there has {there} bytes" if there != size else "its source has another file now"
        return self._linked_or_fetched(planned.model_copy(update={"reason": reason}))

    def _baked(self, place: str) -> Path | None:
        """Return the file of this place in ComfyUI's own models folder, if models go elsewhere and it is there."""
        path = self._own / place if self._own is not None else None
        return path if path is not None and path.is_file() else None

    def _baked_in(self, planned: PlannedModel, path: Path) -> PlannedModel:
        """Take the file that ComfyUI has in its own folder; another of this name is in the way of the one wanted."""
        size = path.stat().st_size
        if planned.size_bytes not in (None, size):
            return planned.model_copy(
                update={"verdict": Verdict.UNKNOWN, "error": JobError.of(shadowing(planned.place))}
            )
        return planned.model_copy(
            update={"verdict": Verdict.ADOPT, "size_bytes": size, "is_baked_in": True, "reason": _BAKED_IN}
        )

    def _linked_or_fetched(self, planned: PlannedModel) -> PlannedModel:
        for place, record in self._state.models.items():
            is_same = planned.sha256 == record.receipt.sha256 and not record.is_baked_in
            if is_same and place != planned.place and record.receipt.describes(self._models / place):
                return planned.model_copy(update={"verdict": Verdict.LINK, "reason": f"the same file as {place}"})
        kept = kept_bytes(download_of(planned.entry, self._models), planned.filename)
        return planned.model_copy(update={"kept_bytes": kept})

    def _without_doubles(self, planned: Sequence[PlannedModel]) -> tuple[PlannedModel, ...]:
        """Leave out entries that lead to the same place, and have the second of two equal files linked."""
        places: dict[str, PlannedModel] = {}
        contents: dict[str, str] = {}
        for model in planned:
            name = model.place if model.verdict is not Verdict.UNKNOWN else key_of(model.entry)
            if name in places:
                self._arrivals.ended(model.number)  # whoever waits for it waits for the first one too
                continue
            first = contents.setdefault(model.sha256, model.place) if model.sha256 else model.place
            is_second = model.verdict is Verdict.FETCH and first != model.place
            changed = {"verdict": Verdict.LINK, "reason": f"the same file as {first}"} if is_second else {}
            places[name] = model.model_copy(update=changed)
        return tuple(places.values())


def _last_part(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rpartition("/")[2]


def _unchanged_hash(ours: ModelRecord | None, entry: ModelEntry, remote: Remote) -> str | None:
    """Return the hash that was noted of the file from this source, if the source still has the same."""
    if ours is None or ours.key != key_of(entry):
        return None
    receipt = ours.receipt
    is_same = receipt.etag == remote.etag and remote.size_bytes in (None, receipt.size_bytes)
    return receipt.sha256 if is_same else None


def _is_unfinished(path: Path) -> bool:
    return any(path.with_name(f"{path.name}{ending}").exists() for ending in _UNFINISHED)
