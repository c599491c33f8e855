"""What Vast.ai is told of the work: counting only, no I/O.

Wire source: Vast's SDK, `serverless/server/lib/metrics.py` and `data_types.py`. Figures that the autoscaler adds up are
those since the last report that arrived; here none is lost between two reports, nor with one that does not arrive.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue

from comfyworker.hosts.vast.place import Place
from comfyworker.hosts.vast.signatures import AuthData

VERSION = "1.1.0"
"""The version of the protocol, as the SDK names it."""
_REMEMBERED_REQNUMS = 10_000
_KEPT_DELETES = 10_000
"""Ended requests that wait to be told; an autoscaler that has not been there for so many has forgotten them itself."""


class RequestStatus(StrEnum):
    """How a request stands; the words are the wire's."""

    CREATED = "Created"
    STARTED = "Started"
    SESSION_ACTIVE = "SessionActive"
    SUCCESS = "Success"
    ERROR = "Error"
    CANCELED = "Cancelled"
    REJECTED = "Rejected"


@dataclass(eq=False, slots=True)
class Entry:
    """One request or session, changed only by its ledger."""

    request_idx: int | None
    """What the autoscaler calls it; None: it did not come from there, and is not told of one by one."""
    workload: float
    entered_queue_at: float
    """Unix seconds, as the two below; 0.0 is "never", as on the wire."""
    status: RequestStatus = RequestStatus.CREATED
    success: bool = False
    is_session: bool = False
    in_session: bool = False
    """A request within a session: Vast knows the session only, but its workload counts."""
    work_started_at: float = 0.0
    work_completed_at: float = 0.0

    def to_delete(self) -> dict[str, JsonValue]:
        """Return it as /delete_requests/ wants it."""
        return {
            "request_idx": self.request_idx,
            "success": self.success,
            "status": self.status.value,
            "entered_queue_at": self.entered_queue_at,
            "work_started_at": self.work_started_at,
            "work_completed_at": self.work_completed_at,
        }


@dataclass(frozen=True, slots=True)
class Sums:
    """Workload since a report: what came in, was served, was canceled and was turned away."""

    received: float = 0.0
    served: float = 0.0
    canceled: float = 0.0
    rejected: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.received + other.received,
            self.served + other.served,
            self.canceled + other.canceled,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True, slots=True)
class StatusReport:
    """One report of the worker's state, taken out of the ledger: it arrives, or it is put back."""

    body: dict[str, JsonValue]
    """As /worker_status/ wants it, but who the worker is: see `addressed`."""
    sums: Sums
    disk_usage_gb: float

    def addressed(self, place: Place) -> dict[str, JsonValue]:
        """Return the body with the worker's number, token and URL; a secret is in it then."""
        return {"id": place.id, "mtoken": place.token.get_secret_value(), **self.body, "url": place.url}


@dataclass(slots=True)
class _Model:
    """What is known of the worker's readiness."""

    loadtime_s: float = 0.0
    max_perf: float = 0.0
    error_message: str = ""


@dataclass(slots=True)
class _Disk:
    """Use of the disk in GB, which are 2³⁰ bytes here as with the SDK."""

    reported_gb: float | None = None


@dataclass(eq=False)
class Ledger:
    """Counts requests and their workload; used from one event loop, and nothing in it waits."""

    clock: Callable[[], float] = time.time
    _model: _Model = field(default_factory=_Model)
    _disk: _Disk = field(default_factory=_Disk)
    _sums: Sums = field(default_factory=Sums)
    _at_work: dict[Entry, None] = field(default_factory=dict)
    _ended: deque[Entry] = field(default_factory=lambda: deque(maxlen=_KEPT_DELETES))
    _reqnums: OrderedDict[int, None] = field(default_factory=OrderedDict)
    _received_count: int = 0
    _has_news: bool = False

    # The model

    def loaded(self, *, max_perf: float, loadtime_s: float) -> None:
        """The worker is ready: the benchmark gave `max_perf` (workload a second), `loadtime_s` after its start."""
        self._model.max_perf = max_perf
        self._model.loadtime_s = loadtime_s
        self._has_news = True

    def errored(self, message: str) -> None:
        """The worker cannot serve; Vast sends it nothing while it reports a message, and may replace it."""
        self._has_news = self._has_news or message != self._model.error_message
        self._model.error_message = message

    def recovered(self) -> None:
        """The worker can serve again."""
        self.errored("")

    @property
    def is_loaded(self) -> bool:
        """Whether the benchmark is done."""
        return self._model.max_perf > 0

    @property
    def max_perf(self) -> float:
        """Workload a second that the benchmark measured; 0.0 before that."""
        return self._model.max_perf

    @property
    def error_message(self) -> str:
        """Why the worker cannot serve; empty where it can."""
        return self._model.error_message

    # Requests

    def receive(self, auth: AuthData | None, workload: float, *, in_session: bool = False) -> Entry:
        """Take a request in; it is ended by exactly one of `succeed`, `fail` and `cancel`.

        Args:
            auth: What Vast's router gave it; None where it came without.
            workload: See `workload_of`.
            in_session: It belongs to a session that is open, whose `auth` it carries.
        """
        return self._take(auth, Entry(_index(auth, in_session), workload, self.clock(), in_session=in_session))

    def open_session(self, auth: AuthData | None, workload: float) -> Entry:
        """Take a session in; it is at work until it is ended as a request is."""
        now = self.clock()
        entry = Entry(_index(auth), workload, now, RequestStatus.SESSION_ACTIVE, is_session=True, work_started_at=now)
        return self._take(auth, entry)

    def begin(self, entry: Entry, *, at: float | None = None) -> None:
        """ComfyUI has had the request since `at` (Unix seconds); None is now.

        A job that another request had asked for may have begun before this one came: no time on the wire goes back.
        """
        if entry in self._at_work and not entry.work_started_at:
            entry.work_started_at = self.clock() if at is None else max(at, entry.entered_queue_at)
            entry.status = RequestStatus.STARTED

    def succeed(self, entry: Entry) -> bool:
        """The request was served. Ending a request twice changes nothing; returns whether this was the first time."""
        return self._end(entry, RequestStatus.SUCCESS, Sums(served=entry.workload), success=True)

    def fail(self, entry: Entry) -> bool:
        """The request has failed, so it is not told as served."""
        return self._end(entry, RequestStatus.ERROR, Sums(), success=False)

    def cancel(self, entry: Entry) -> bool:
        """Whoever asked wants it no more. For Vast that is a success: the worker is not to blame."""
        return self._end(entry, RequestStatus.CANCELED, Sums(canceled=entry.workload), success=True)

    def reject(self, auth: AuthData | None, workload: float, *, in_session: bool = False) -> None:
        """Note a request that is turned away because too much waits; it is not received."""
        entry = Entry(_index(auth, in_session), workload, self.clock(), RequestStatus.REJECTED)
        self._count_reqnum(None if in_session else auth)
        self._sums += Sums(rejected=workload)
        self._leave(entry)

    @property
    def workload_in_flight(self) -> float:
        """Workload of all requests that are here, sessions not counted."""
        return sum(entry.workload for entry in self._at_work if not entry.is_session)

    @property
    def queue_time_s(self) -> float:
        """Seconds that the requests which are here will take; 0.0 where the worker has not been rated yet."""
        return self.workload_in_flight / self._model.max_perf if self.is_loaded else 0.0

    # Reports

    @property
    def has_news(self) -> bool:
        """Whether anything happened that no report tells of."""
        return self._has_news

    @property
    def has_deletes(self) -> bool:
        """Whether requests have ended that Vast was not told of."""
        return bool(self._ended)

    def note_disk(self, disk_usage_gb: float) -> None:
        """Note the disk's use at the start, which the first report compares with."""
        self._disk.reported_gb = disk_usage_gb

    def take_status(self, *, disk_usage_gb: float) -> StatusReport:
        """Take out what is to be reported; it must come back by `delivered` or `put_back`.

        Args:
            disk_usage_gb: What is used of the disk now.
        """
        sums, self._sums = self._sums, Sums()
        self._has_news = False
        known = [entry for entry in self._at_work if not entry.in_session]
        reported_gb = disk_usage_gb if self._disk.reported_gb is None else self._disk.reported_gb
        body: dict[str, JsonValue] = {
            "version": VERSION,
            "loadtime": self._model.loadtime_s,
            "cur_load": float(sum(entry.workload for entry in known)),
            "rej_load": sums.rejected,
            "new_load": max(sums.received - sums.canceled, 0.0),
            "error_msg": self._model.error_message,
            "max_perf": self._model.max_perf,
            "cur_perf": sums.served,
            "cur_capacity": 0,
            "max_capacity": 0,
            "num_requests_working": len(known),
            "num_requests_recieved": self._received_count,
            "additional_disk_usage": disk_usage_gb - reported_gb,
            "disk_usage": disk_usage_gb,
            "working_request_idxs": [entry.request_idx for entry in known if entry.request_idx is not None],
        }
        return StatusReport(body, sums, disk_usage_gb)

    def delivered(self, report: StatusReport) -> None:
        """Note that a report has arrived."""
        self._disk.reported_gb = report.disk_usage_gb

    def put_back(self, report: StatusReport) -> None:
        """Note that a report has not arrived: what it told is told by the next one."""
        self._sums = report.sums + self._sums
        self._has_news = True

    def take_deletes(self) -> tuple[Entry, ...]:
        """Take out the requests that have ended; they must come back by `put_back_deletes` if they do not arrive."""
        taken = tuple(self._ended)
        self._ended.clear()
        return taken

    def put_back_deletes(self, entries: Sequence[Entry]) -> None:
        """Keep ended requests for the next time; the oldest are given up where there are too many."""
        self._ended = deque((*entries, *self._ended), maxlen=_KEPT_DELETES)

    def _take(self, auth: AuthData | None, entry: Entry) -> Entry:
        self._at_work[entry] = None
        self._count_reqnum(None if entry.in_session else auth)
        self._sums += Sums(received=entry.workload)
        self._has_news = True
        return entry

    def _end(self, entry: Entry, status: RequestStatus, sums: Sums, *, success: bool) -> bool:
        if entry not in self._at_work:
            return False
        del self._at_work[entry]
        entry.status = status
        entry.success = success
        if status is not RequestStatus.CANCELED:  # On the wire a canceled request was never completed.
            entry.work_completed_at = self.clock()
        self._sums += sums
        self._leave(entry)
        return True

    def _leave(self, entry: Entry) -> None:
        if entry.request_idx is not None:
            self._ended.append(entry)
        self._has_news = True

    def _count_reqnum(self, auth: AuthData | None) -> None:
        """Count a request as received, once: one that was turned away may come again under its number."""
        if auth is None or auth.reqnum in self._reqnums:
            return
        self._received_count += 1
        self._reqnums[auth.reqnum] = None
        if len(self._reqnums) > _REMEMBERED_REQNUMS:
            self._reqnums.popitem(last=False)


def _index(auth: AuthData | None, in_session: bool = False) -> int | None:
    return None if auth is None or in_session else auth.request_idx
