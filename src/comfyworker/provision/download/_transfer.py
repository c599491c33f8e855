"""The bytes of one file on their way to the disk: in several ranges at once where its host takes that."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp
import stamina

from comfyworker.finishing import in_thread
from comfyworker.provision.download._answers import Facts
from comfyworker.provision.download._faults import Fault, backoff, disk_fault
from comfyworker.provision.download._parts import Part
from comfyworker.provision.download._source import Body, Source
from comfyworker.provision.download._web import translated

_MEBIBYTE = 1024 * 1024
_LEAST_STRETCH, _MOST_STRETCH = 4 * _MEBIBYTE, 64 * _MEBIBYTE
_LEAST_HALF = 512 * 1024
"""What a connection that has nothing to do takes over from another one at least."""
_LEAST_SECONDS = 1.0
"""How long the other one would still take at least: taking over costs a new request, and what is on its way twice."""
_WRITE_BYTES = _MEBIBYTE
"""What each connection holds in memory before it writes."""
_FORGIVEN_BYTES = _MEBIBYTE
"""A connection that brought so much before it broke was no failed attempt."""
_SAVE_INTERVAL_S = 1.0
_RETRY_WAIT_S = 0.5
_RETRY_MAX_WAIT_S = 20.0
_MOST_BUSY = 2
"""How often a connection is told that there are too many before it ends, if it is not the last one."""


@dataclass
class _Stretch:
    """A part of the file that one connection fetches; another may take over its second half."""

    position: int
    """What is on the disk ends here."""
    end: int
    reached: int = 0
    """What has come ends here."""
    begun_at: float = 0.0
    begun_from: int = 0

    def seconds_left(self, now: float) -> float:
        """Return how long it will take at the rate that it has had so far; without any, for ever."""
        came = self.reached - self.begun_from
        return (self.end - self.reached) * (now - self.begun_at) / came if came > 0 else float("inf")


class Transfer:
    """Fetches what is missing of one file."""

    def __init__(
        self,
        source: Source,
        facts: Facts,
        part: Part,
        *,
        connections: int,
        attempts: int,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Fetch into `part`.

        Args:
            source: Where from.
            facts: What it says of the file.
            part: The file to write, and what of it has come.
            connections: How many ranges are fetched at the same time at most.
            attempts: How often each range is tried while nothing comes.
            on_bytes: Called with the bytes that are there, often.
        """
        self._source = source
        self._facts = facts
        self._part = part
        self._connections = connections
        self._on_bytes = on_bytes
        self._retrying = functools.partial(
            stamina.retry_context,
            on=backoff,
            attempts=attempts,
            timeout=None,
            wait_initial=_RETRY_WAIT_S,
            wait_max=_RETRY_MAX_WAIT_S,
            wait_jitter=_RETRY_WAIT_S,
        )
        self._waiting: deque[_Stretch] = deque()
        self._running: list[_Stretch] = []
        self._open = 0
        self._done_bytes = part.spans.total
        self.fetched_bytes = 0
        self.grown = asyncio.Event()
        """Set whenever more has come."""
        self.is_over = False

    async def run(self) -> None:
        """Fetch all that is missing; what has come is noted in the journal, however it ends.

        Raises:
            Fault: it cannot be fetched.
            SourceChanged: the file is another one by now.
            RangesLost: the host sends only whole files by now.
            InsufficientStorage: the disk is full.
        """
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._save_often(), name="note what has come")
                async with asyncio.TaskGroup() as connections:
                    self._begin(connections)
                saving.cancel()
        except BaseException:
            with contextlib.suppress(OSError):  # what made it end is what has to be told
                await self._save()
            raise
        finally:
            self.is_over = True
            self.grown.set()

    def _begin(self, group: asyncio.TaskGroup) -> None:
        size = self._facts.size_bytes
        if not self._facts.takes_ranges or size is None:
            group.create_task(self._fetch_whole(), name="fetch a file")
            return
        self._waiting.extend(_stretches(self._part.spans.gaps(size), size, self._connections))
        missing = sum(stretch.end - stretch.position for stretch in self._waiting)
        self._open = min(self._connections, -(-missing // _LEAST_HALF))
        for number in range(self._open):
            group.create_task(self._fetch_stretches(), name=f"fetch ranges {number}")

    async def _save_often(self) -> None:
        """Note what has come, once a second: a killed process loses no more than that; others see it is alive."""
        while True:
            await asyncio.sleep(_SAVE_INTERVAL_S)
            try:
                await self._save()
            except OSError as error:
                raise disk_fault(error, self._part.filename) from None

    async def _save(self) -> None:
        spans = tuple(self._part.spans) if self._facts.takes_ranges else ()
        await in_thread(functools.partial(self._part.save, spans))

    async def _fetch_stretches(self) -> None:
        """Fetch one stretch after the other, as long as there is any, or half of one to take over."""
        try:
            while (stretch := self._next()) is not None:
                stretch.reached = stretch.begun_from = stretch.position
                stretch.begun_at = asyncio.get_running_loop().time()
                self._running.append(stretch)
                try:
                    if not await self._fetch_stretch(stretch):
                        self._waiting.appendleft(_Stretch(stretch.position, stretch.end))
                        return
                finally:
                    self._running.remove(stretch)
        finally:
            self._open -= 1

    def _next(self) -> _Stretch | None:
        if self._waiting:
            return self._waiting.popleft()
        now = asyncio.get_running_loop().time()
        slowest = max(self._running, key=lambda stretch: stretch.seconds_left(now), default=None)
        if slowest is None or slowest.end - slowest.reached < 2 * _LEAST_HALF:
            return None
        if slowest.seconds_left(now) < _LEAST_SECONDS:
            return None
        middle = (slowest.reached + slowest.end) // 2
        taken = _Stretch(middle, slowest.end)
        slowest.end = middle
        return taken

    async def _fetch_stretch(self, stretch: _Stretch) -> bool:
        """Fetch a stretch, tried again while the host fails; False if the host wants fewer connections."""
        busy = 0
        while stretch.position < stretch.end:
            async for attempt in self._retrying():
                with attempt:
                    before = stretch.position
                    try:
                        await self._fetch_once(stretch)
                    except Fault as fault:
                        if fault.may_pass and stretch.position - before >= _FORGIVEN_BYTES:
                            break
                        busy += fault.reason == "busy"
                        if busy >= _MOST_BUSY and self._open > 1:
                            return False
                        raise
                    if stretch.position < stretch.end and stretch.position == before:
                        raise Fault("was answered with nothing", "broken_ranges", may_pass=True)
        return True

    async def _fetch_once(self, stretch: _Stretch) -> None:
        with translated():
            async with self._source.open(self._facts, (stretch.position, stretch.end)) as body:
                await self._read(body, stretch)

    async def _fetch_whole(self) -> None:
        """Fetch a file whose host knows no ranges: each attempt begins at its beginning."""
        async for attempt in self._retrying():
            with attempt:
                await self._begin_anew()
                # Without a size, whatever ends it is its end: a body that was cut raises.
                stretch = _Stretch(0, self._facts.size_bytes or 1 << 62)
                with translated():
                    async with self._source.open(self._facts, None) as body:
                        if body.end != self._facts.size_bytes:
                            text = f"is {body.end} bytes long, and was {self._facts.size_bytes} a moment ago"
                            raise Fault(text, "changing", may_pass=True)
                        await self._read(body, stretch)
                if self._facts.size_bytes is not None and stretch.position < stretch.end:
                    text = f"ended after {stretch.position} of {stretch.end} bytes"
                    raise Fault(text, "wrong_size", may_pass=True)

    async def _begin_anew(self) -> None:
        self._done_bytes = 0
        try:
            await in_thread(self._part.begin_anew)
        except OSError as error:
            raise disk_fault(error, self._part.filename) from None

    async def _read(self, body: Body, stretch: _Stretch) -> None:
        """Write what comes, up to the stretch's end, which may come nearer meanwhile."""
        chunks: list[bytes] = []
        held = 0
        stretch.reached = stretch.position
        try:
            async for chunk in body.response.content.iter_any():
                room = min(stretch.end, body.end or stretch.end) - stretch.position - held
                if room <= 0:
                    break
                taken = chunk if len(chunk) <= room else chunk[:room]
                chunks.append(taken)
                held += len(taken)
                stretch.reached += len(taken)
                if held >= _WRITE_BYTES or held >= stretch.end - stretch.position:
                    await self._write(chunks, held, stretch)
                    chunks, held = [], 0
        except (aiohttp.ClientError, OSError):
            await self._write(chunks, held, stretch)
            raise
        await self._write(chunks, held, stretch)

    async def _write(self, chunks: list[bytes], held: int, stretch: _Stretch) -> None:
        if not held:
            return
        start = stretch.position
        try:
            await in_thread(functools.partial(self._part.write, chunks, start))
        except OSError as error:
            raise disk_fault(error, self._part.filename) from None
        # What another connection has taken over meanwhile was written too early by this one: the bytes are the same.
        stretch.position = min(start + held, stretch.end)
        self._part.spans.add(start, stretch.position)
        self.fetched_bytes += held
        self._done_bytes += stretch.position - start
        self._on_bytes(self._done_bytes)
        self.grown.set()


def _stretches(gaps: Iterator[tuple[int, int]], size: int, connections: int) -> Iterator[_Stretch]:
    """Cut what is missing into pieces of 4 to 64 MiB, so that each connection has several and the first come first."""
    length = min(max(size // (4 * connections), _LEAST_STRETCH), _MOST_STRETCH)
    for gap_start, end in gaps:
        start = gap_start
        while start < end:
            yield _Stretch(start, min(start + length, end))
            start += length
