"""Files fetched from wherever they are, into folders of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from aiohttp.abc import AbstractResolver

from comfyworker.delivery.store import Stores
from comfyworker.finishing import in_thread
from comfyworker.provision.download._answers import Facts
from comfyworker.provision.download._buckets import list_models, upload_file
from comfyworker.provision.download._faults import Fault, failed
from comfyworker.provision.download._fetching import Fetch
from comfyworker.provision.download._files import beginning_of, check_local, place
from comfyworker.provision.download._finding import Ground, find_source, local_file
from comfyworker.provision.download._looking import check_beginning, check_hash, check_told, wanted_hash
from comfyworker.provision.download._progress import OnBytes, Progress
from comfyworker.provision.download._sessions import open_session
from comfyworker.provision.download.addresses import plain_url, shown_source
from comfyworker.provision.download.filenames import check_filename
from comfyworker.provision.download.records import BucketModel, Download, Receipt, Remote
from comfyworker.provision.download.space import Room
from comfyworker.settings import ProvisionSettings, StoreSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Downloader:
    """Fetches files, several at once, each in several ranges; an async context manager."""

    def __init__(
        self,
        settings: ProvisionSettings,
        store: StoreSettings,
        *,
        is_guarded: bool = False,
        allow_private: bool = False,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Fetch as the settings say; nothing is opened yet.

        Args:
            settings: Tokens, limits, and how much is done at once.
            store: The keys and endpoints of buckets.
            is_guarded: Somebody else chooses the URLs: only http and https, only public addresses, and no token but
                those of the settings.
            allow_private: Under guard, take the addresses of this machine and of private networks, too.
            resolver: Who resolves names; None takes the system's.
        """
        self._settings = settings
        self._store = store
        self._is_guarded = is_guarded
        self._allow_private = allow_private
        self._resolver = resolver
        self._slots = asyncio.Semaphore(settings.parallel)
        self._room = Room()
        self._stack = contextlib.AsyncExitStack()
        self._ground: Ground | None = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            session = await open_session(
                self._settings,
                is_guarded=self._is_guarded,
                allow_private=self._allow_private,
                resolver=self._resolver,
            )
            await stack.enter_async_context(session)
            stores = await stack.enter_async_context(Stores(self._store))
            self._stack = stack.pop_all()
        self._ground = Ground(session, stores, self._settings, self._is_guarded)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ground = None
        await self._stack.aclose()

    async def probe(self, download: Download) -> Remote:
        """Return what the source says of a file; nothing of it is fetched but its first byte.

        Raises:
            DownloadFailed: there is no such file, it may not be had, or it is not the one that is wanted.
        """
        with _told(download.url):
            path = local_file(download.url, is_guarded=self._is_guarded)
            if path is not None:
                found = await in_thread(functools.partial(check_local, path))
                name = check_filename(download.filename or path.name)
                return Remote(filename=name, size_bytes=found.st_size)
            name, facts = await self._fetch(download, None).look()
        return Remote(
            filename=name,
            size_bytes=facts.size_bytes,
            etag=facts.etag,
            sha256=facts.sha256,
            takes_ranges=facts.takes_ranges,
        )

    async def fetch(self, download: Download, *, on_bytes: OnBytes | None = None) -> Receipt:
        """Bring a file into its folder, whole or not at all, in place of what is there; return its receipt.

        As many as DOWNLOAD_PARALLEL run at once, the others wait. If cancelled, or killed, what has come of a file
        that takes ranges is kept, and is not fetched again.

        Args:
            download: What is wanted, and where.
            on_bytes: Told at most ten times a second, and at the end, how much is there and how much there will be;
                what an earlier try has left is there from the beginning.

        Raises:
            DownloadFailed: it cannot be fetched, or is not what is wanted; says whether trying again may help.
            InsufficientStorage: the disk has no room for it.
        """
        async with _Slot(self._slots) as slot:
            started = time.monotonic()
            with _told(download.url):
                path = local_file(download.url, is_guarded=self._is_guarded)
                if path is None:
                    receipt = await self._fetch(download, on_bytes).run(on_come=slot.leave)
                else:
                    receipt = await self._place(path, download, on_bytes)
        log.info(
            "provision.file_fetched",
            filename=receipt.filename,
            source=shown_source(download.url),
            size_bytes=receipt.size_bytes,
            fetched_bytes=receipt.fetched_bytes,
            duration_s=round(time.monotonic() - started, 3),
        )
        return receipt

    async def list_bucket(self, url: str) -> tuple[BucketModel, ...]:
        """Return the models in a bucket that is laid out by model folder, below what `s3://bucket/prefix` names.

        Raises:
            DownloadFailed: it cannot be listed.
        """
        with _told(url):
            return await list_models(url, self._opened().stores)

    async def upload(self, path: Path, url: str, *, on_bytes: OnBytes | None = None) -> None:
        """Bring a file to `s3://bucket/key`, whole or not at all.

        Args:
            path: The file.
            url: Where to.
            on_bytes: Told how much has gone out, the storage having taken all but the last parts of it.

        Raises:
            DownloadFailed: it cannot be read, or the storage does not take it.
        """
        async with self._slots:
            with _told(url):
                await upload_file(path, url, self._opened().stores, on_bytes)

    def _fetch(self, download: Download, on_bytes: OnBytes | None) -> Fetch:
        source, name_in_url = find_source(download.url, self._opened())
        return Fetch(download, source, name_in_url, settings=self._settings, room=self._room, on_bytes=on_bytes)

    def _opened(self) -> Ground:
        if self._ground is None:
            message = "the downloader is not open"
            raise RuntimeError(message)
        return self._ground

    async def _place(self, path: Path, download: Download, on_bytes: OnBytes | None) -> Receipt:
        """Bring a file of this machine to where it shall be."""
        found = await in_thread(functools.partial(check_local, path))
        check_told(download, Facts(filename=None, size_bytes=found.st_size, takes_ranges=False))
        check_beginning(await in_thread(functools.partial(beginning_of, path)))
        target = download.folder / check_filename(download.filename or path.name)
        progress = Progress(on_bytes, found.st_size)
        digest = await place(
            path,
            target,
            check=functools.partial(check_hash, wanted_hash(download)),
            on_bytes=progress.at,
        )
        progress.tell(found.st_size)
        return receipt_of(target, digest, url=download.url)


class _Slot:
    """One of the downloads that may run at the same time; it can be left before its end."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        self._is_held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Let the next one begin."""
        if self._is_held:
            self._is_held = False
            self._slots.release()


def receipt_of(path: Path, digest: str, *, url: str) -> Receipt:
    """Return the receipt of a file that has come without a network; raises OSError."""
    found = path.stat()
    return Receipt(
        url=plain_url(url),
        filename=path.name,
        size_bytes=found.st_size,
        sha256=digest,
        mtime_ns=found.st_mtime_ns,
    )


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Raise what speaks against a download as the error that leaves the room, with where it was to come from."""
    try:
        yield
    except Fault as fault:
        raise failed(fault, shown_source(url)) from None  # the chain may show more of the URL
