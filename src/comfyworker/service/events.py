"""What happens to a job, told to whoever listens: numbered, so that a reader who comes back misses nothing.

Progress and previews are complete in themselves: of each only the latest is kept, so neither a slow reader nor none at
all costs memory, and nobody who listens makes the job wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from comfyworker.jobs import JobStatus, Progress
from comfyworker.service.packing import pack, unpack
from comfyworker.service.records import KeptArtifact

_MAX_LOG_LINES = 200
RESERVED_IDS = 1000
"""How many ids are noted in the database at once, so that after a crash none is given a second time."""


class EventKind(StrEnum):
    """What sort of news, in Comfy API v2's words."""

    STATUS = "status"
    PROGRESS = "progress"
    PREVIEW = "preview"
    OUTPUT = "output"
    LOG = "log"


class StatusChange(NamedTuple):
    """A job's new status."""

    status: JobStatus
    queue_position: int | None = None


class Preview(NamedTuple):
    """A picture of what a node is at."""

    node_id: str
    content_type: str
    data: bytes


class LogLine(NamedTuple):
    """Something that went differently than asked, for people."""

    level: str
    message: str


EventData = StatusChange | Progress | Preview | KeptArtifact | LogLine


class Event(NamedTuple):
    """One piece of news; the ids of a job's events grow, by one unless the server was killed in between."""

    id: int
    kind: EventKind
    at: float
    data: EventData


class EventLog:
    """The events of one job while it is not over."""

    def __init__(self, *, last_id: int = 0, reserve: Callable[[int], None] | None = None) -> None:
        """Number events from `last_id` + 1.

        Args:
            last_id: The highest id that may have been given before.
            reserve: Called with the highest id that may be given from now on, where `reserve_more` has to be passed.
        """
        self._last_id = last_id
        self._reserved = last_id + RESERVED_IDS
        self._reserve = reserve
        self._events: dict[int, Event] = {}
        self._latest: dict[tuple[EventKind, str], int] = {}
        self._log_ids: list[int] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def last_id(self) -> int:
        """The id of the latest event."""
        return self._last_id

    def reserve_more(self) -> int:
        """Return the highest id that may be given before the next reservation; who asks writes it down."""
        self._reserved = self._last_id + RESERVED_IDS
        return self._reserved

    def tell(self, kind: EventKind, data: EventData) -> Event | None:
        """Tell of something; None if the job is over."""
        if self._is_closed:
            return None
        if self._reserve is not None and self._last_id >= self._reserved:
            self._reserve(self.reserve_more())
        event = self.draft(kind, data)
        self._add(event)
        return event

    def draft(self, kind: EventKind, data: EventData) -> Event:
        """Return the next event without telling it; `close` does."""
        return Event(self._last_id + 1, kind, time.time(), data)

    def close(self, last: Event | None = None) -> None:
        """Tell `last`, after which readers end; without it they end as they are."""
        if not self._is_closed:
            if last is not None:
                self._add(last)
            self._is_closed = True
            self._wake()

    def kept(self) -> list[Event]:
        """Return what a reader who begins now would be told, oldest first."""
        return list(self._events.values())

    async def follow(self, after: int) -> AsyncGenerator[Event, None]:
        """Give each event behind `after` as it comes, until the job is over."""
        seen = min(after, self._last_id)
        while True:
            changed = self._changed
            # One at a time: what a slow reader has not taken yet may have been superseded meanwhile.
            event = next((event for event in self._events.values() if event.id > seen), None)
            if event is not None:
                seen = event.id
                yield event
            elif self._is_closed:
                return
            else:
                await changed.wait()

    def _add(self, event: Event) -> None:
        self._last_id = event.id
        slot = _slot(event)
        if slot is not None:
            self._events.pop(self._latest.get(slot, 0), None)
            self._latest[slot] = event.id
        elif event.kind is EventKind.LOG:
            self._log_ids.append(event.id)
            if len(self._log_ids) > _MAX_LOG_LINES:
                self._events.pop(self._log_ids.pop(0), None)
        self._events[event.id] = event
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _slot(event: Event) -> tuple[EventKind, str] | None:
    """Return what the event supersedes the last of; None if it supersedes nothing."""
    if isinstance(event.data, Preview):
        return EventKind.PREVIEW, event.data.node_id
    return (EventKind.PROGRESS, "") if event.kind is EventKind.PROGRESS else None


def pack_events(events: Iterable[Event]) -> bytes:
    """Return a finished job's events as they are stored; previews are of no use any more."""
    return pack([_packed(event) for event in events if event.kind is not EventKind.PREVIEW])


def unpack_events(stored: bytes, outputs: Iterable[KeptArtifact]) -> list[Event]:
    """Return a finished job's events; `outputs` are the files that they tell of."""
    by_id = {output.asset_id: output for output in outputs}
    events = []
    for event_id, name, at, data in unpack(stored):
        kind = EventKind(name)
        unpacked = _unpacked(kind, data, by_id)
        if unpacked is not None:
            events.append(Event(event_id, kind, at, unpacked))
    return events


def _packed(event: Event) -> list[object]:
    data = event.data
    packed: object
    if isinstance(data, KeptArtifact):
        packed = data.asset_id
    elif isinstance(data, Progress):
        packed = data.model_dump(mode="json", exclude_defaults=True)
    else:
        packed = [item for item in data if not isinstance(item, bytes)]
    return [event.id, event.kind, event.at, packed]


def _unpacked(
    kind: EventKind,
    data: Any,  # noqa: ANN401  # JSON of ours
    outputs: Mapping[str, KeptArtifact],
) -> EventData | None:
    if kind is EventKind.OUTPUT:
        return outputs.get(data)  # None once the files have expired.
    if kind is EventKind.PROGRESS:
        return Progress.model_validate(data)
    if kind is EventKind.STATUS:
        return StatusChange(JobStatus(data[0]), data[1])
    return LogLine(*data)
