"""Models that a job's workflow lacks, fetched before it runs: where that is allowed, from hosts that are allowed.

Whoever sends a job chooses what is fetched, so it is held to more than a config.yml is: named hosts only, files that
hold no programs, no address of a private network, none of the operator's tokens, and never in place of a file that is
there. What a name means is decided by the first job that brings it; a hash in the workflow holds it to its content.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import structlog

from comfyworker.comfyui.finding import format_bytes
from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.model_kinds import core_folders
from comfyworker.errors import DownloadFailed, InsufficientStorage, WorkerError
from comfyworker.finishing import finish, in_thread
from comfyworker.provision.entries import ModelEntry
from comfyworker.settings import Settings

if TYPE_CHECKING:  # they bring HTTP clients and YAML, which few jobs need
    from comfyworker.provision.download import Download, Downloader, Receipt
    from comfyworker.provision.proposal import Missing, ProposedModel

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Place = tuple[str | None, str]
"""Destination and file name of a model."""
_SPARE_BYTES = 1_000_000_000
"""What is left free on the disk: outputs and ComfyUI need some of it."""
_STOP_WITHIN_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """A missing model that may be fetched."""

    model: ProposedModel
    url: str
    models: Path
    """The models folder that it goes into."""
    size_bytes: int | None = None
    """What the request says of its size."""

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.models / (self.model.destination or "")

    @property
    def target(self) -> Path:
        """The file."""
        return self.folder / self.model.filename


@dataclass
class _Shared:
    """One download, which several jobs may wait for."""

    download: Download
    waiting: int = 0
    listeners: list[Callable[[int, int | None], None]] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    is_given_up: bool = False
    receipt: Receipt | None = None
    error: Exception | None = None
    task: asyncio.Task[None] | None = None

    def tell(self, done_bytes: int, total_bytes: int | None) -> None:
        """Tell every job that waits how much has come."""
        for listener in self.listeners:
            listener(done_bytes, total_bytes)


class OnDemandModels:
    """Fetches missing models for the jobs of one worker; an async context manager, whose end ends the downloads."""

    def __init__(self, settings: Settings, *, cwd: Path) -> None:
        """Fetch as the settings allow; nothing is opened before a job needs it."""
        self._settings = settings
        self._cwd = cwd
        self._running: dict[Path, _Shared] = {}
        self._group = asyncio.TaskGroup()
        self._stack = contextlib.AsyncExitStack()
        self._downloader: Downloader | None = None
        self._opening = asyncio.Lock()
        self._home: Path | None = None
        self._home_state: Path | None = None

    async def __aenter__(self) -> Self:
        """Be ready."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is under way; what has come is kept for another time."""
        for shared in self._running.values():
            if shared.task is not None:
                shared.task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            await self._stack.aclose()

    async def judge(self, missing: Missing, folders: Folders | None) -> tuple[tuple[Wanted, ...], Mapping[Place, str]]:
        """Return the models that may be fetched, and why each of the others may not.

        Args:
            missing: What the workflow lacks.
            folders: The folders of the ComfyUI that lacks it; None if they are not on our disk.
        """
        wanted, reasons = [], {}
        for model in missing.models:
            reason = self._refusal(model, folders)
            url = model.url if model.known_by is None else None  # that we know one allows no job anything
            if reason is None and url is not None and folders is not None:
                models = await self._models_for(model, folders)
                found = Wanted(model, url, models, (missing.sizes or {}).get(url))
                if not await in_thread(found.target.exists):
                    wanted.append(found)
                    continue
                reason = "The file is there, and ComfyUI does not offer it."
            if reason is not None:
                reasons[model.place] = reason
        return tuple(wanted), reasons

    async def fetch(self, wanted: Sequence[Wanted], say: Callable[[str], None]) -> None:
        """Fetch models; one that another job fetches already is fetched once.

        If cancelled, a download that no other job waits for is ended; what has come of it is kept.

        Args:
            wanted: What `judge` allowed.
            say: Told in words how far it is, on the event loop.

        Raises:
            DownloadFailed: one cannot be had, is too large, or is not what the workflow says.
            InsufficientStorage: the disk has no room for all of them.
        """
        progress = _Progress(wanted, say)
        progress.tell()
        await self._check_room(wanted)
        try:
            async with asyncio.TaskGroup() as group:
                for entry in wanted:
                    group.create_task(self._join(entry, progress), name=f"wait for {entry.model.filename}")
        except* (WorkerError, OSError) as failures:
            raise _first(failures) from None

    def _refusal(self, model: ProposedModel, folders: Folders | None) -> str | None:
        settings = self._settings.provision
        url = model.url if model.known_by is None else None  # of what a workflow names by itself
        if not settings.download_models:
            # That it could be fetched is only told of what says where it is.
            return url and "It is not fetched from the URL that the workflow names: DOWNLOAD_MODELS is off."
        host = foreign_host(url, settings.allowed_model_hosts) if url is not None else None
        ending = Path(model.filename).suffix.lower()
        checks = (
            (url is None, "the workflow names no URL of it"),
            (host is not None, f"{host} is none of ALLOWED_MODEL_HOSTS"),
            (
                ending not in settings.allowed_model_endings,
                f"files with {ending} can hold programs (ALLOWED_MODEL_ENDINGS)",
            ),
            (not model.is_whole, "it is not known which folder it belongs into"),
            (folders is None or folders.models is None, "ComfyUI's models folder is not on this worker's disk"),
        )
        return next((f"It is not fetched: {reason}." for is_so, reason in checks if is_so), None)

    async def _models_for(self, model: ProposedModel, folders: Folders) -> Path:
        """Return the models folder that a model goes into: on the volume, if ComfyUI looks there for its kind."""
        own = folders.models or Path()
        if self._settings.comfyui.api_urls:
            return own
        if self._home is None:
            from comfyworker.provision.place import find_place  # noqa: PLC0415  # as above

            place = await asyncio.to_thread(find_place, self._settings.comfyui, self._settings.volume, cwd=self._cwd)
            self._home, self._home_state = place.models or own, place.models_state
        kind = Path(model.destination or "").parts[0]
        is_searched = kind in core_folders() or await in_thread((self._home / kind).is_dir)
        return self._home if is_searched else own

    async def _check_room(self, wanted: Sequence[Wanted]) -> None:
        """Refuse what is too large by itself or together, before any of it is fetched."""
        downloader = await self._open()
        missing_bytes: Counter[int] = Counter()
        for entry in wanted:
            if entry.target in self._running:
                continue  # it holds its room already
            remote = await downloader.probe(_download(entry))
            size = self._checked_size(entry, remote.size_bytes)
            device, free, kept = await in_thread(functools.partial(_look_at_disk, entry))
            missing_bytes[device] += size - kept
            if missing_bytes[device] + _SPARE_BYTES > free:
                needed = format_bytes(missing_bytes[device])
                raise InsufficientStorage(
                    f"the disk has no room for the models that the workflow lacks: {needed} are to be fetched, and "
                    f"{format_bytes(free)} are free",
                    hint="Remove models that are not needed, or use a larger disk.",
                    details={"wanted_bytes": missing_bytes[device], "free_bytes": free},
                )

    def _checked_size(self, entry: Wanted, size_bytes: int | None) -> int:
        limit = self._settings.provision.model_max_gb * 1e9
        name = entry.model.filename
        if size_bytes is None:
            raise DownloadFailed(
                f"{name} is not fetched: its host does not say how large it is",
                hint="Use a host that does, or have the operator put it into config.yml.",
            )
        if size_bytes > limit:
            raise DownloadFailed(
                f"{name} is not fetched: it has {format_bytes(size_bytes)}, more than MODEL_MAX_GB",
                hint="Use a smaller one, or have the operator put it into config.yml.",
                details={"size_bytes": size_bytes, "limit_bytes": int(limit)},
            )
        return size_bytes

    async def _join(self, entry: Wanted, progress: _Progress) -> None:
        """Wait for a model's download, which is begun if nobody has."""
        shared = await self._running_for(entry)
        if shared is None:
            if await in_thread(entry.target.exists):
                return  # another job has brought it since it was found missing
            shared = self._running.get(entry.target) or self._begin(entry)
        listener = progress.listener(entry)
        shared.listeners.append(listener)
        shared.waiting += 1
        try:
            await shared.is_over.wait()
        finally:
            shared.waiting -= 1
            shared.listeners.remove(listener)
            if shared.waiting == 0 and not shared.is_over.is_set() and shared.task is not None:
                shared.is_given_up = True
                shared.task.cancel()
                await finish(shared.is_over.wait(), within_s=_STOP_WITHIN_S, name="a download that nobody waits for")
        if shared.error is not None:
            raise shared.error
        if shared.receipt is None:
            raise DownloadFailed(f"{entry.model.filename} was not fetched: the worker is stopping", retryable=True)
        if entry.model.sha256 is not None and shared.receipt.sha256 != entry.model.sha256:
            raise DownloadFailed(
                f"{entry.model.filename} is another file than the workflow says: its SHA-256 is not the one wanted",
                hint="Another job has just brought a model of this name; give yours another one.",
            )

    async def _running_for(self, entry: Wanted) -> _Shared | None:
        """Return the download of a model that is under way; one that was given up is waited for first."""
        while (shared := self._running.get(entry.target)) is not None and shared.is_given_up:
            await shared.is_over.wait()  # what it leaves is gone on with
        return shared

    def _begin(self, entry: Wanted) -> _Shared:
        shared = self._running[entry.target] = _Shared(_download(entry))
        shared.task = self._group.create_task(self._run(entry, shared), name=f"fetch {entry.target.name}")
        return shared

    async def _run(self, entry: Wanted, shared: _Shared) -> None:
        try:
            downloader = await self._open()
            shared.receipt = await downloader.fetch(shared.download, on_bytes=shared.tell)
            await in_thread(functools.partial(self._note, entry, shared.receipt))
        except Exception as error:  # noqa: BLE001  # the jobs that wait raise it; here it would end all others' downloads
            shared.error = error
        finally:
            del self._running[entry.target]
            shared.is_over.set()

    def _note(self, entry: Wanted, receipt: Receipt) -> None:
        """Note a model for the commands that list, verify and prune models; they can do without it. Blocks."""
        from comfyworker.provision.place import state_beside  # noqa: PLC0415  # as above
        from comfyworker.provision.records import ModelRecord, Wish, key_of, note_brought  # noqa: PLC0415  # as above

        is_home = entry.models == self._home and self._home_state is not None
        folder = self._home_state if is_home and self._home_state is not None else state_beside(entry.models)
        asked = ModelEntry(url=entry.url, destination=entry.model.destination or "", filename=entry.model.filename)
        record = ModelRecord(
            key=key_of(asked), place=entry.target.relative_to(entry.models).as_posix(), receipt=receipt, wish=Wish.JOB
        )
        try:
            note_brought(folder, record)
        except WorkerError as error:
            log.warning("models.not_noted", model=record.place, error=error.message)

    async def _open(self) -> Downloader:
        async with self._opening:
            if self._downloader is None:
                from comfyworker.provision.download import Downloader  # noqa: PLC0415  # as above

                settings = self._settings.provision
                if not settings.download_with_tokens:
                    settings = settings.model_copy(update={"hf_token": None, "civitai_token": None})
                self._downloader = await self._stack.enter_async_context(
                    Downloader(
                        settings,
                        self._settings.store,
                        is_guarded=True,
                        allow_private=self._settings.inputs.allow_private_urls,
                    )
                )
        return self._downloader


class _Progress:
    """How far the downloads of one job are, in words."""

    def __init__(self, wanted: Sequence[Wanted], say: Callable[[str], None]) -> None:
        self._what = wanted[0].model.filename if len(wanted) == 1 else f"{len(wanted)} models"
        self._count = len(wanted)
        self._say = say
        self._done: dict[Path, tuple[int, int]] = {}
        self._said: int | None = -1

    def listener(self, entry: Wanted) -> Callable[[int, int | None], None]:
        """Return what is told of one of them."""

        def listen(done_bytes: int, total_bytes: int | None) -> None:
            if total_bytes:
                self._done[entry.target] = (done_bytes, total_bytes)
                self.tell()

        return listen

    def tell(self) -> None:
        """Say how far it is, whenever it is a percent further; without figures as long as not all are known."""
        total = sum(size for _, size in self._done.values())
        percent = None
        if total and len(self._done) == self._count:
            percent = 100 * sum(done for done, _ in self._done.values()) // total
        if percent != self._said:
            self._said = percent
            self._say(f"downloading {self._what}" if percent is None else f"downloading {self._what}: {percent} %")


def foreign_host(url: str, allowed: Sequence[str]) -> str | None:
    """Return a URL's host if no entry of `allowed` is it; None if one is.

    Entries are `host`, `host:port` or `*.example.org`, for https; `http://host:port` allows that without TLS.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "what is no host"
    if parts.scheme == "hf":
        host, port, scheme = "huggingface.co", None, "https"
    else:
        scheme = parts.scheme
    for entry in allowed:
        wanted_scheme, _, place = entry.rpartition("://")
        name, _, wanted_port = place.partition(":")
        if scheme != (wanted_scheme or "https") or (wanted_port or None) != (None if port is None else str(port)):
            continue
        if host == name or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
            return None
    shown = host if port is None else f"{host}:{port}"
    return f"'{shown}'" if scheme == "https" else f"'{scheme}://{shown}'"


def _download(entry: Wanted) -> Download:
    from comfyworker.provision.download import Download  # noqa: PLC0415  # as above

    return Download(
        url=entry.url,
        folder=entry.folder,
        filename=entry.model.filename,
        sha256=entry.model.sha256,
        size_bytes=entry.size_bytes,
    )


def _look_at_disk(entry: Wanted) -> tuple[int, int, int]:
    """Return the disk that a model goes to, its free bytes, and what an earlier try has left of the model there."""
    from comfyworker.provision.download import free_bytes, kept_bytes  # noqa: PLC0415  # as above

    folder = next(parent for parent in (entry.folder, *entry.folder.parents) if parent.is_dir())
    return folder.stat().st_dev, free_bytes(folder), kept_bytes(_download(entry), entry.model.filename)


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    while True:
        error = failures.exceptions[0]
        if not isinstance(error, BaseExceptionGroup):
            return error
        failures = error
