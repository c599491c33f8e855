"""Buckets that are laid out as ComfyUI's models folder is: listed, and added to."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from comfyworker.delivery.store import PartBuffers, StoreFault, Stores, list_files
from comfyworker.finishing import in_thread
from comfyworker.provision.download._faults import Fault
from comfyworker.provision.download._files import check_local
from comfyworker.provision.download._finding import locate_bucket, store_fault
from comfyworker.provision.download._progress import OnBytes, Progress
from comfyworker.provision.download.records import BucketModel

_MOST_PARTS = 10_000
_MEBIBYTE = 1024 * 1024
_MODEL = "application/octet-stream"


async def list_models(url: str, stores: Stores) -> tuple[BucketModel, ...]:
    """Return the files below the prefix that an address names, by their keys; raises Fault."""
    _check_scheme(url)
    location, prefix = locate_bucket(url, stores)
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    try:
        found = [file async for file in list_files(stores, location, folder)]
    except StoreFault as fault:
        raise store_fault(fault) from None
    scheme = urlsplit(url.strip()).scheme
    models = []
    for file in sorted(found, key=lambda file: file.key):
        destination, _, filename = file.key.removeprefix(folder).rpartition("/")
        models.append(
            BucketModel(
                url=f"{scheme}://{location.bucket}/{quote(file.key, safe='/~')}",
                destination=destination,
                filename=filename,
                size_bytes=file.size_bytes,
                etag=file.etag,
            )
        )
    return tuple(models)


async def upload_file(path: Path, url: str, stores: Stores, on_bytes: OnBytes | None) -> None:
    """Bring a file to an address in a bucket; raises Fault."""
    _check_scheme(url)
    location, key = locate_bucket(url, stores)
    if not key or key.endswith("/"):
        raise Fault(
            "names no object in the bucket", "invalid_url", hint="Add its key, as s3://bucket/vae/x.safetensors."
        )
    if location.is_anonymous:
        hint = f"Set {location.name_of('access_key_id')} and {location.name_of('secret_access_key')}."
        raise Fault("cannot be written without keys", "forbidden", hint=hint)
    size = (await in_thread(functools.partial(check_local, path))).st_size
    progress = Progress(on_bytes, size)
    settings = stores.settings
    part_bytes = max(settings.part_bytes, -(-size // (_MOST_PARTS * _MEBIBYTE)) * _MEBIBYTE)
    buffers = _CountedBuffers(settings.parallel, part_bytes, progress.at)
    try:
        target = await stores.open(location)
        await target.put(key, path, _MODEL, buffers)
    except StoreFault as fault:
        text = f"cannot be written: {fault.reason}"
        raise Fault(text, "unreachable", hint=fault.hint, may_pass=fault.may_pass) from None
    finally:
        buffers.stop()
    progress.tell(size)


def _check_scheme(url: str) -> None:
    if urlsplit(url.strip()).scheme not in {"s3", "r2"}:
        raise Fault("is no bucket", "invalid_url", hint="Write s3://bucket/prefix, or r2://bucket/prefix.")


class _CountedBuffers(PartBuffers):
    """Buffers that tell how much of a file has been lent to the storage."""

    def __init__(self, count: int, size_bytes: int, on_bytes: Callable[[int], None]) -> None:
        super().__init__(count, size_bytes)
        self._on_bytes = on_bytes
        self._lent_bytes = 0

    def lend(self, buffer: mmap.mmap, size_bytes: int) -> memoryview:
        """Lend a filled buffer, and count it."""
        self._lent_bytes += size_bytes
        self._on_bytes(self._lent_bytes)
        return super().lend(buffer, size_bytes)
