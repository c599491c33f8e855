"""One upload in a process of its own: `python -m benchmarks.uploader`, with the JSON of an `UploadPlan` on stdin.

Prints one JSON object with what it has measured.
"""

import asyncio
import functools
import gc
import json
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

import aiohttp
import obstore
from obstore.store import S3Store
from yarl import URL

from benchmarks.resident import peak_bytes, reset_peak, resident_bytes
from benchmarks.signed_put import put_signed
from benchmarks.worker import unread_log
from comfyworker.delivery.choosing import Deliveries
from comfyworker.jobs import Artifact, ArtifactKind, JobRequest
from comfyworker.settings import load_settings

WARM_UP_BYTES = 100_000
CONTENT_TYPE = "video/mp4"
LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)

Side = Literal["worker", "obstore", "signed_put", "bare_put"]
Upload = Callable[[Path], Awaitable[None]]


def plain_store(environ: Mapping[str, str]) -> S3Store:
    """Return obstore's store as one who wants nothing special makes it."""
    return S3Store(
        environ["BUCKET_NAME"],
        endpoint=environ["BUCKET_ENDPOINT_URL"],
        region=environ["BUCKET_REGION"],
        access_key_id=environ["BUCKET_ACCESS_KEY_ID"],
        secret_access_key=environ["BUCKET_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


@dataclass(frozen=True)
class UploadPlan:
    """What to upload, where to, and who does it."""

    module: ClassVar[str] = "benchmarks.uploader"

    side: Side
    path: str
    environ: dict[str, str] = field(repr=False)
    """The variables with which a worker delivers there."""

    def to_json(self) -> str:
        """Return the plan as this module reads it."""
        return json.dumps(asdict(self))


async def measure(plan: UploadPlan) -> dict[str, float]:
    """Upload a small file, then the one that is meant; measure the second, then remove both."""
    path = Path(plan.path)
    size_bytes = _artifact(path).size_bytes
    small = path.with_name(f"{uuid.uuid4().hex}.small")
    small.write_bytes(bytes(WARM_UP_BYTES))
    sides: dict[Side, Callable[[UploadPlan, list[Path]], Awaitable[dict[str, float]]]] = {
        "worker": _by_worker,
        "obstore": _by_obstore,
        "signed_put": _by_signed_put,
        "bare_put": _by_bare_put,
    }
    try:
        figures = await sides[plan.side](plan, [small, path])
        stored = await _remove_all(plan)
    finally:
        small.unlink()
    if sorted(stored) != sorted([WARM_UP_BYTES, size_bytes]):
        message = f"the bucket holds files of {stored} bytes"
        raise RuntimeError(message)
    return figures


async def _by_worker(plan: UploadPlan, paths: list[Path]) -> dict[str, float]:
    settings = load_settings(plan.environ)
    with unread_log(settings.log):
        async with Deliveries(settings) as deliveries:
            return await _measured(functools.partial(_deliver, deliveries), paths)


async def _deliver(deliveries: Deliveries, path: Path) -> None:
    delivery = deliveries.choose(JobRequest(id=uuid.uuid4().hex))
    [delivered] = await delivery.deliver([_artifact(path)])
    if delivered.failure is not None:
        raise RuntimeError(delivered.failure.message)


async def _by_obstore(plan: UploadPlan, paths: list[Path]) -> dict[str, float]:
    store = plain_store(plan.environ)

    async def upload(path: Path) -> None:
        await obstore.put_async(store, path.name, path, attributes={"Content-Type": CONTENT_TYPE})

    return await _measured(upload, paths)


async def _by_signed_put(plan: UploadPlan, paths: list[Path]) -> dict[str, float]:
    async with aiohttp.ClientSession(timeout=LIMIT) as session:
        return await _measured(functools.partial(put_signed, session, plan.environ), paths)


async def _by_bare_put(plan: UploadPlan, paths: list[Path]) -> dict[str, float]:
    store = plain_store(plan.environ)
    async with aiohttp.ClientSession(timeout=LIMIT) as session:

        async def upload(path: Path) -> None:
            url = await obstore.sign_async(store, "PUT", path.name, timedelta(hours=1))
            headers = {"Content-Type": CONTENT_TYPE}
            with path.open("rb") as file:
                async with session.put(URL(url, encoded=True), data=file, headers=headers) as answer:
                    answer.raise_for_status()

        return await _measured(upload, paths)


async def _measured(upload: Upload, paths: list[Path]) -> dict[str, float]:
    """Upload one file after the other, and return the figures of the last."""
    *earlier, last = paths
    for path in earlier:
        await upload(path)
    gc.collect()
    reset_peak()
    before_bytes, begun_at, begun_cpu = resident_bytes(), time.perf_counter(), time.process_time()
    await upload(last)
    return {
        "duration_s": time.perf_counter() - begun_at,
        "processor_s": time.process_time() - begun_cpu,
        "added_bytes": peak_bytes() - before_bytes,
    }


def _artifact(path: Path) -> Artifact:
    return Artifact(
        name=path.name,
        kind=ArtifactKind.VIDEO,
        node_id="9",
        output_key="images",
        content_type=CONTENT_TYPE,
        size_bytes=path.stat().st_size,
        path=path,
    )


async def _remove_all(plan: UploadPlan) -> list[int]:
    """Remove all objects of the bucket, and return their sizes."""
    store, sizes = plain_store(plan.environ), []
    for entries in [entries async for entries in obstore.list(store)]:
        for entry in entries:
            sizes.append(entry["size"])
            await obstore.delete_async(store, entry["path"])
    return sizes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(UploadPlan(**json.load(sys.stdin))))), flush=True)
    # At an ordinary end the interpreter may meet a thread of obstore's that lets go of Python's objects, and is aborted
    # (2 of 25 of obstore's own uploads, 1 of 75 of the worker's, on a busy machine).
    os._exit(0)
