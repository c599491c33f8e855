"""The life of a worker on Vast.ai: reported from its first second to its last.

What takes long happens side by side: ComfyUI boots while the server begins to listen and Vast's key is fetched, and the
benchmark runs as soon as ComfyUI answers. Ready, for Vast, is who has been rated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from comfyworker.delivery.choosing import Deliveries
from comfyworker.errors import ComfyUIUnavailable, WorkerError
from comfyworker.finishing import in_thread
from comfyworker.hosts.draining import Signals, drain, noted_signals
from comfyworker.hosts.http.listening import url_of
from comfyworker.hosts.startup import SERVER, Startup
from comfyworker.hosts.vast.benchmark import BenchmarkFailed, Rating
from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.listening import ALL_ADDRESSES, bind, check_certificate
from comfyworker.hosts.vast.place import Place, find_place
from comfyworker.hosts.vast.pubkey import PublicKeys
from comfyworker.hosts.vast.reports import Reports, open_platform_session, reporting
from comfyworker.hosts.vast.signatures import Signatures
from comfyworker.hosts.vast.watching import Troubles, watch_comfyui
from comfyworker.hosts.worker import Worker, open_worker
from comfyworker.service import kept_delivery
from comfyworker.settings import Settings

if TYPE_CHECKING:
    import socket

    import aiohttp

    from comfyworker.comfyui.pool import ComfyUIPool

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PUBKEY: Final = "pubkey"
"""From when Vast is first asked for its key until it is there."""
BENCHMARK: Final = "benchmark"
"""From when ComfyUI answers until the worker is rated."""
_KEY_IS_LATE_S = 60.0
_LOOKED_AGAIN_S = 5.0
_TRIED_AGAIN_S = 30.0


async def serve(settings: Settings, *, startup: Startup, on_up: Callable[[str], None], cwd: Path | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain; the same again does not wait.

    A server that cannot start says so to Vast once, and raises: whoever starts containers then starts it again.

    Args:
        settings: The worker's settings.
        startup: Hears how the start goes.
        on_up: Called with the server's URL when requests are answered; jobs are taken once the worker is rated.
        cwd: Where relative places are looked for; None is the current folder.

    Raises:
        InvalidSettings: variables that Vast sets are missing, the port is taken, or the certificate is of no use.
        ComfyUINotFound: there is no ComfyUI.
    """
    place, ledger = find_place(settings.vast), Ledger()
    failure: WorkerError | None = None
    with noted_signals() as signals:
        async with open_platform_session() as session, _reporting(place, ledger, session) as reports:
            keys = None if place is None or settings.vast.unsecured else PublicKeys(place.report_addresses, session)
            signatures = Signatures(keys, place, unsecured=settings.vast.unsecured)
            vast = _Vast(ledger, signatures, keys, reports)
            life = _Life(_served(settings, place), startup, vast, cwd or Path.cwd())
            try:
                await life.run(signals, on_up)
            except WorkerError as error:
                # Kept until the reports are sent: the reporting's task group would wrap it.
                ledger.errored(f"the worker could not start: {error.message}")
                failure = error
    if failure is not None:
        raise failure
    log.info("vast.stopped")


@dataclass(frozen=True)
class _Vast:
    """What the worker has to do with Vast; on a machine of one's own, there are no reports and no keys."""

    ledger: Ledger
    signatures: Signatures
    keys: PublicKeys | None
    reports: Reports | None


class _Life:
    """One worker from its start to its end."""

    def __init__(self, settings: Settings, startup: Startup, vast: _Vast, cwd: Path) -> None:
        self._settings = settings
        self._startup = startup
        self._vast = vast
        self._cwd = cwd
        self._troubles = Troubles(vast.ledger)

    async def run(self, signals: Signals, on_up: Callable[[str], None]) -> None:
        """Serve until a signal has come and what ran has ended.

        Raises:
            WorkerError: it could not be served.
        """
        self._startup.expect(SERVER, BENCHMARK, *(() if self._vast.keys is None else (PUBKEY,)))
        files = await in_thread(lambda: check_certificate(self._settings.vast))
        failure: WorkerError | None = None
        with bind(self._settings.vast) as bound:
            try:
                async with asyncio.TaskGroup() as group:
                    if self._vast.reports is not None:
                        group.create_task(self._vast.reports.flush(), name="report that the worker is loading")
                    key = group.create_task(self._fetch_key(), name="fetch Vast's key")
                    deliveries = Deliveries(self._settings, serve=kept_delivery)
                    async with open_worker(
                        self._settings, cwd=self._cwd, deliveries=deliveries, startup=self._startup
                    ) as worker:
                        await self._serve(worker, bound, files, key, signals=signals, on_up=on_up)
                    key.cancel()
            except* WorkerError as errors:
                failure = _first(errors)
        if failure is not None:
            raise failure

    async def _serve(
        self,
        worker: Worker,
        bound: socket.socket,
        files: tuple[Path, Path] | None,
        key: asyncio.Task[None],
        *,
        signals: Signals,
        on_up: Callable[[str], None],
    ) -> None:
        self._startup.begin(SERVER)
        # Loaded only now: ComfyUI starts meanwhile.
        from comfyworker.hosts.http.server import Tls, serving  # noqa: PLC0415
        from comfyworker.hosts.vast.house import open_house  # noqa: PLC0415

        tls = None if files is None else Tls(*files)
        async with (
            open_house(worker, self._settings, ledger=self._vast.ledger, signatures=self._vast.signatures) as app,
            serving(app, bound, tls=tls),
        ):
            self._startup.end(SERVER)
            here = url_of(bound)
            on_up(self._settings.http.public_url or (here if tls is None else here.replace("http:", "https:", 1)))
            async with asyncio.TaskGroup() as group:
                pool = worker.pipeline.pool
                watching = watch_comfyui(pool, self._troubles, broken_after_s=self._settings.vast.broken_after_s)
                tasks = (
                    group.create_task(self._rate(worker, key), name="rate the worker"),
                    group.create_task(watching, name="watch ComfyUI"),
                )
                await signals.wait(1)
                for task in tasks:
                    task.cancel()
            await drain(app.state.context.service, self._settings.http.drain_timeout_s, signals)

    async def _fetch_key(self) -> None:
        """Get what signatures are checked with; Vast is told if that takes long."""
        keys = self._vast.keys
        if keys is None:
            return
        with self._startup.phase(PUBKEY):
            try:
                async with asyncio.timeout(_KEY_IS_LATE_S):
                    await keys.fetch()
            except TimeoutError:
                self._troubles.note("pubkey", "Vast's public key cannot be fetched from any REPORT_ADDR")
                await keys.fetch()
                self._troubles.clear("pubkey")

    async def _rate(self, worker: Worker, key: asyncio.Task[None]) -> None:
        """Rate the worker, and tell Vast that it is ready; after a failure again, when ComfyUI is another."""
        pool = worker.pipeline.pool
        rating = Rating(self._settings, worker.pipeline, self._cwd)
        while True:
            lives = _lives(pool)
            try:
                await pool.any_ready()
                self._startup.begin(BENCHMARK)
                score = await rating.rate()
            except ComfyUIUnavailable:
                await _until_changed(pool)  # The watch tells of it, if it lasts.
            except (BenchmarkFailed, WorkerError) as error:
                self._troubles.note("benchmark", str(error))
                may_pass = error.may_pass if isinstance(error, BenchmarkFailed) else error.retryable
                await _until_another(pool, lives, within_s=_TRIED_AGAIN_S if may_pass else None)
            else:
                break
        self._troubles.clear("benchmark")
        await asyncio.wait({key})
        self._startup.end(BENCHMARK)
        loadtime_s = self._startup.now_s()
        self._vast.ledger.loaded(max_perf=score, loadtime_s=loadtime_s)
        log.info("vast.ready", max_perf=round(score, 3), loadtime_s=round(loadtime_s, 3))


@contextlib.asynccontextmanager
async def _reporting(
    place: Place | None, ledger: Ledger, session: aiohttp.ClientSession
) -> AsyncIterator[Reports | None]:
    if place is None:
        yield None
        return
    async with reporting(place, ledger, session) as reports:
        yield reports


def _served(settings: Settings, place: Place | None) -> Settings:
    """Return `settings` as the HTTP host's parts read them: where it listens, and under which URL it is reached."""
    public_url = settings.http.public_url or (place.url if place is not None else None)
    changes = {"host": ALL_ADDRESSES, "port": settings.vast.worker_port, "public_url": public_url}
    return settings.model_copy(update={"http": settings.http.model_copy(update=changes)})


def _lives(pool: ComfyUIPool) -> tuple[tuple[str, int], ...]:
    return tuple((instance.name, instance.restarts) for instance in pool.instances)


async def _until_another(pool: ComfyUIPool, lives: tuple[tuple[str, int], ...], *, within_s: float | None) -> None:
    """Wait until a ComfyUI was started anew, at most so long: the same one would give the same answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while _lives(pool) == lives:
                await pool.wait_changed()


async def _until_changed(pool: ComfyUIPool) -> None:
    # What made it fail may have passed before anybody looked: then nothing is told any more.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOKED_AGAIN_S):
            await pool.wait_changed()


def _first(errors: BaseExceptionGroup[WorkerError]) -> WorkerError:
    """Return the first error of a group, which may be within others."""
    one = errors.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
