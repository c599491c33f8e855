"""How far provisioning is, written down for those who wait for it, and told by them as if they did it themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.provision.lease import LeaseLost, Snapshot, hold_lease
from comfyworker.provision.reporting import Item, ItemResult, ProvisionReporter

MODELS_LEASE = "models"
NODES_LEASE = "nodes"
"""Folders for leases below a state folder: models come while custom nodes are installed, and by different workers."""
_T = TypeVar("_T")


async def alone(folder: Path, reporter: ProvisionReporter, work: Callable[[ProvisionReporter], Awaitable[_T]]) -> _T:
    """Do some work while no other worker does its own with the same folder, and return what it returns.

    Others' work is waited for, and told to `reporter` meanwhile. `work` is given a reporter of its own, so that others
    hear of it; it may be begun again, after another worker took this one for dead.
    """
    mirror = Mirror(reporter)
    while True:
        try:
            async with hold_lease(folder, on_wait=mirror.show) as lease:
                recorder = RecordingReporter(reporter)
                lease.progress = recorder.snapshot
                return await work(recorder)
        except LeaseLost:
            reporter.noted("Another worker has taken over, since this one was silent for too long.")


class _Standing(BaseModel):
    """How far one item is."""

    model_config = ConfigDict(extra="ignore")

    item: Item
    is_begun: bool = False
    done_bytes: int = 0
    total_bytes: int | None = None
    step: str = ""
    result: ItemResult | None = None


class _Standings(BaseModel):
    model_config = ConfigDict(extra="ignore")

    items: list[_Standing] = []


class RecordingReporter:
    """Passes on what it hears, and keeps where each item stands."""

    def __init__(self, reporter: ProvisionReporter) -> None:
        """Pass it on to `reporter`."""
        self._reporter = reporter
        self._standings: dict[str, _Standing] = {}

    def snapshot(self) -> Snapshot:
        """Return where everything stands, as plain JSON."""
        return _Standings(items=list(self._standings.values())).model_dump(mode="json", exclude_defaults=True)

    def planned(self, items: Sequence[Item]) -> None:
        """Hear what will be done."""
        for item in items:
            self._standings[_name(item)] = _Standing(item=item)
        self._reporter.planned(items)

    def begun(self, item: Item) -> None:
        """Hear that an item is being worked at."""
        self._standing(item).is_begun = True
        self._reporter.begun(item)

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Hear how much of a file is there."""
        standing = self._standing(item)
        standing.done_bytes, standing.total_bytes = done_bytes, total_bytes
        self._reporter.fetched(item, done_bytes, total_bytes)

    def stepped(self, item: Item, text: str) -> None:
        """Hear what is being done."""
        self._standing(item).step = text
        self._reporter.stepped(item, text)

    def ended(self, result: ItemResult) -> None:
        """Hear what came of an item."""
        self._standing(result.item).result = result
        self._reporter.ended(result)

    def noted(self, text: str) -> None:
        """Hear a sentence."""
        self._reporter.noted(text)

    def _standing(self, item: Item) -> _Standing:
        return self._standings.setdefault(_name(item), _Standing(item=item))


class Mirror:
    """Tells a reporter what another worker has written down, each thing once."""

    def __init__(self, reporter: ProvisionReporter) -> None:
        """Tell `reporter`."""
        self._reporter = reporter
        self._told: dict[str, _Standing] = {}
        self._host: str | None = None

    def show(self, snapshot: Snapshot, host: str) -> None:
        """Tell what is new in a snapshot of the worker on `host`."""
        if self._host != host:
            self._host = host
            where = f"Another worker ({host})" if host else "Another worker"
            self._reporter.noted(f"{where} is at it; this one waits for it, and takes over if it dies.")
        try:
            standings = _Standings.model_validate(snapshot).items
        except ValidationError:
            return  # of another version of the worker
        fresh = [standing.item for standing in standings if _name(standing.item) not in self._told]
        if fresh:
            self._reporter.planned(fresh)
        for standing in standings:
            self._show_one(standing, self._told.get(_name(standing.item), _Standing(item=standing.item)))
            self._told[_name(standing.item)] = standing

    def _show_one(self, now: _Standing, before: _Standing) -> None:
        if now.is_begun and not before.is_begun:
            self._reporter.begun(now.item)
        if now.step != before.step:
            self._reporter.stepped(now.item, now.step)
        if now.done_bytes != before.done_bytes:
            self._reporter.fetched(now.item, now.done_bytes, now.total_bytes)
        if now.result is not None and before.result is None:
            self._reporter.ended(now.result)


def _name(item: Item) -> str:
    return f"{item.kind} {item.key}"
