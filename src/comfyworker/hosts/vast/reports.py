"""Reports to Vast.ai's autoscaler: how the worker stands, and which requests have ended.

Wire source: Vast's SDK, `Metrics._send_metrics_loop` and `_send_delete_requests_loop`. A report goes to one address,
the first that takes it: behind the addresses of one worker there is one autoscaler, which adds figures up.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog
from pydantic import JsonValue

from comfyworker.finishing import finish, in_thread
from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.place import Place

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TICK_S = 1.0
_QUIET_S = 10.0
"""Seconds after which a worker reports although nothing has happened."""
_ANSWER_WITHIN_S = 10.0
_CONNECT_WITHIN_S = 5.0
_LONGEST_REST_S = 10.0
_LONGEST_REST_BESIDE_OTHERS_S = 60.0
_REST_PER_SECOND_LOST = 6.0
_DISK = "/"
_GB = 2**30


def open_platform_session(*, answer_within_s: float = _ANSWER_WITHIN_S) -> aiohttp.ClientSession:
    """Return a session for what the worker says to Vast and asks of it; the caller closes it.

    Args:
        answer_within_s: Seconds after which nothing more is expected of an address.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(
            total=answer_within_s, sock_connect=min(_CONNECT_WITHIN_S, answer_within_s), sock_read=answer_within_s
        ),
        # A connection that is kept may be closed by the other side just when a report is sent on it: then nobody would
        # know whether it arrived.
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "comfyworker"},
    )


@contextlib.asynccontextmanager
async def reporting(
    place: Place, ledger: Ledger, session: aiohttp.ClientSession, *, last_within_s: float = 5.0
) -> AsyncIterator[Reports]:
    """Report from here to the context's end, and there once more what has not been told.

    Args:
        place: Who reports, and to whom.
        ledger: What is reported.
        session: See `open_platform_session`.
        last_within_s: Seconds that the last reports may take.
    """
    reports = Reports(place, ledger, session)
    ledger.note_disk(await _disk_usage_gb())
    try:
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(reports.keep_telling_status(), name="report the worker's status to Vast"),
                group.create_task(reports.keep_telling_deletes(), name="report ended requests to Vast"),
            )
            try:
                yield reports
            finally:
                # The loops end by themselves: what is on its way is awaited, since nobody would know if it arrived.
                reports.stop()
                await finish(_ended(tasks), within_s=last_within_s, name="the last reports to Vast")
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None  # The group is how this waits, not what went wrong.


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _disk_usage_gb() -> float:
    return (await in_thread(lambda: shutil.disk_usage(_DISK))).used / _GB


class Reports:
    """The reports of one worker; see `reporting`."""

    def __init__(self, place: Place, ledger: Ledger, session: aiohttp.ClientSession) -> None:
        """Report what `ledger` holds; nothing is sent yet."""
        self._place = place
        self._ledger = ledger
        self._stopping = asyncio.Event()
        self._status = _Line(session, place.report_addresses, "/worker_status/")
        self._deletes = _Line(session, place.delete_addresses, "/delete_requests/")

    def stop(self) -> None:
        """Have both loops report once more what is new, also to addresses that failed before, and end."""
        self._stopping.set()
        self._rouse()

    async def flush(self) -> None:
        """Report now how the worker stands and what has ended, also where nothing is new."""
        self._rouse()
        await self._tell_status()
        await self._tell_deletes()

    async def keep_telling_status(self) -> None:
        """Report each second in which something happened, else about every ten."""
        loop = asyncio.get_running_loop()
        told_at = -_QUIET_S
        going_on = True
        while going_on:
            going_on = await self._tick()
            is_due = going_on and loop.time() - told_at >= _QUIET_S
            if (self._ledger.has_news or is_due) and await self._tell_status():
                told_at = loop.time()

    async def keep_telling_deletes(self) -> None:
        """Report ended requests each second in which there are any."""
        going_on = True
        while going_on:
            going_on = await self._tick()
            if self._ledger.has_deletes:
                await self._tell_deletes()

    def _rouse(self) -> None:
        for line in (self._status, self._deletes):
            for rest in line.rests.values():
                rest.until = 0.0

    async def _tick(self) -> bool:
        """Wait for the next second, or for the end; return whether there is a next one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await self._stopping.wait()
        return not self._stopping.is_set()

    async def _tell_status(self) -> bool:
        async with self._status.lock:
            if not self._status.is_open:
                return False
            disk_usage_gb = await _disk_usage_gb()
            report = self._ledger.take_status(disk_usage_gb=disk_usage_gb)
            arrived = False
            try:
                arrived = await self._status.post(report.addressed(self._place))
            finally:
                if arrived:
                    self._ledger.delivered(report)
                else:
                    self._ledger.put_back(report)
            return arrived

    async def _tell_deletes(self) -> None:
        async with self._deletes.lock:
            if not self._deletes.is_open:
                return
            entries = self._ledger.take_deletes()
            arrived = not entries
            try:
                if entries:
                    arrived = await self._deletes.post(
                        {
                            "worker_id": self._place.id,
                            "mtoken": self._place.token.get_secret_value(),
                            "requests": [entry.to_delete() for entry in entries],
                        }
                    )
            finally:
                if not arrived:
                    self._ledger.put_back_deletes(entries)


@dataclass
class _Rest:
    """How long an address that failed is left alone."""

    failures: int = 0
    until: float = 0.0
    """Seconds of the loop's clock."""


@dataclass
class _Line:
    """One kind of report, and the addresses that take it."""

    session: aiohttp.ClientSession
    addresses: Sequence[str]
    path: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One report of a kind at a time: two could overtake each other."""
    rests: dict[str, _Rest] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether there is an address to try just now."""
        now = asyncio.get_running_loop().time()
        return any(self._rest(address).until <= now for address in self.addresses)

    async def post(self, body: dict[str, JsonValue]) -> bool:
        """Send a report to the first address that takes it; return whether one did.

        An address that has failed rests, the longer the oftener it failed and the more time it took: the reports to
        the others wait for it as little as can be.
        """
        data = orjson.dumps(body)
        for address in self.addresses:
            if self._rest(address).until <= asyncio.get_running_loop().time() and await self._post_to(address, data):
                return True
        return False

    async def _post_to(self, address: str, data: bytes) -> bool:
        begun = asyncio.get_running_loop().time()
        try:
            async with self.session.post(
                address + self.path,
                data=data,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,  # The token is for this address.
            ) as answer:
                if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    self._note_taken(address)
                    return True
                self._note_failed(address, f"status {answer.status}", begun=begun)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError.
            self._note_failed(address, type(error).__name__, begun=begun)
        return False

    def _rest(self, address: str) -> _Rest:
        return self.rests.setdefault(address, _Rest())

    def _note_taken(self, address: str) -> None:
        if self._rest(address).failures:
            log.info("reports.resumed", host=urlsplit(address).hostname, report=self.path)
        self.rests[address] = _Rest()

    def _note_failed(self, address: str, reason: str, *, begun: float) -> None:
        rest = self._rest(address)
        if not rest.failures:
            log.warning("reports.failed", host=urlsplit(address).hostname, report=self.path, reason=reason)
        rest.failures += 1
        longest_s = _LONGEST_REST_S if len(self.addresses) == 1 else _LONGEST_REST_BESIDE_OTHERS_S
        now = asyncio.get_running_loop().time()
        rest_s = max(2.0 ** min(rest.failures - 1, 10), (now - begun) * _REST_PER_SECOND_LOST)
        rest.until = now + min(rest_s, longest_s)
