"""Models read again, to see whether each is still what it was when it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from comfyworker.errors import DownloadFailed
from comfyworker.jobs import JobError
from comfyworker.provision.apply import Applied
from comfyworker.provision.download import hash_file
from comfyworker.provision.records import ModelRecord
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus, ProvisionReporter

_AT_ONCE = 2  # A disk reads few large files at once no faster than one.
_HINT = "`comfyworker config apply` fetches it again, if the config asks for it."


async def verify_models(
    records: Sequence[ModelRecord], models: Path, reporter: ProvisionReporter, *, own: Path | None = None
) -> Applied:
    """Read every model that was noted, and compare its SHA-256; what is another is a failure in the results.

    A damaged file's note is left as it is: `comfyworker config apply --force` looks at the content again.
    """
    begun_at = time.monotonic()
    items = {record.place: _item(record) for record in records}
    reporter.planned(list(items.values()))
    at_once = asyncio.Semaphore(_AT_ONCE)
    results: list[ItemResult] = []

    async def verify(record: ModelRecord) -> None:
        async with at_once:
            item, started = items[record.place], time.monotonic()
            reporter.begun(item)
            error = await _fault(record, record.path(models, own))
            result = ItemResult(
                item=item,
                status=ItemStatus.FAILED if error else ItemStatus.PRESENT,
                error=error,
                seconds=time.monotonic() - started,
            )
            reporter.ended(result)
            results.append(result)

    async with asyncio.TaskGroup() as group:
        for record in records:
            group.create_task(verify(record), name=f"verify {record.place}")
    return Applied(results=tuple(results), seconds=time.monotonic() - begun_at)


async def _fault(record: ModelRecord, path: Path) -> JobError | None:
    try:
        digest = await hash_file(path)
    except FileNotFoundError:
        return JobError.of(DownloadFailed("it is gone", hint=_HINT))
    except OSError as error:
        return JobError.of(DownloadFailed(f"it cannot be read: {error.strerror}", hint="Look at the disk."))
    if digest == record.receipt.sha256:
        return None
    hint = (
        "`comfyworker config apply --force` looks at every file, and fetches it again."
        if _looks_same(record, path)
        else _HINT
    )
    return JobError.of(DownloadFailed("its content is another than when it came", hint=hint))


def _looks_same(record: ModelRecord, path: Path) -> bool:
    return record.receipt.describes(path)


def _item(record: ModelRecord) -> Item:
    return Item(key=record.place, kind=ItemKind.MODEL, title=record.place, size_bytes=record.receipt.size_bytes)
