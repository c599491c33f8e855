"""Storages that obstore speaks to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from comfyworker.delivery.store._azure_sas import azure_url
from comfyworker.delivery.store._obstore_faults import translated
from comfyworker.delivery.store._s3_requests import S3Requests
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.parts import FileParts, PartBuffers
from comfyworker.finishing import finish

if TYPE_CHECKING:
    from obstore import PutResult

_ABORT_WITHIN_S = 3.0
_MAX_EXPIRES_S = 604800
_DELETES_AT_ONCE = 8
_MOST_PARTS = 64
"""Never reached: the buffers bound what is on its way."""


class ObstoreTarget:
    """A bucket of S3, Google or Azure."""

    def __init__(
        self,
        store: S3Store | GCSStore | AzureStore,
        location: StoreLocation,
        s3: S3Requests | None,
    ) -> None:
        """Speak through `store`, and through `s3` for what obstore has no call for."""
        self._store = store
        self._location = location
        self._s3 = s3

    async def put(self, key: str, path: Path, content_type: str, buffers: PartBuffers) -> None:
        """Bring a file there in parts; one that fits into a part goes in one piece."""
        parts = FileParts(path, buffers)
        try:
            await parts.open()
            is_whole = parts.size_bytes <= buffers.size_bytes
            body = await parts.read() if is_whole else parts
            with translated(self._location):
                # obstore starts at once and returns a future; its type calls that a coroutine.
                future = asyncio.ensure_future(
                    obstore.put_async(
                        self._store,
                        key,
                        body,
                        attributes={"Content-Type": content_type},
                        use_multipart=not is_whole,
                        chunk_size=buffers.size_bytes,
                        max_concurrency=_MOST_PARTS,
                    )
                )
                del body  # Else the memory would be lent until this function ends.
                await _ended(future, buffers)
        finally:
            parts.close()

    async def url(self, key: str, *, expires_s: int) -> str:
        """Return a presigned URL."""
        expires = timedelta(seconds=min(expires_s, _MAX_EXPIRES_S))
        if self._location.kind is StoreKind.AZURE:
            return azure_url(self._location, key, now=datetime.now(UTC), expires=expires)
        with translated(self._location):
            return await obstore.sign_async(self._store, "GET", key, expires)

    async def set_acl(self, key: str, acl: str) -> None:
        """Set a canned ACL, which obstore has no call for."""
        if self._s3 is None:
            raise StoreFault("ACLs are S3's alone", hint="Unset BUCKET_ACL.")
        await self._s3.set_acl(key, acl)

    async def withdraw(self, keys: Sequence[str]) -> None:
        """Remove objects and unfinished uploads, several at once; one that cannot be removed stops no other."""
        slots = asyncio.Semaphore(_DELETES_AT_ONCE)
        faults: list[StoreFault] = []
        if self._s3 is not None:
            try:
                await self._s3.abort_uploads(keys)
            except StoreFault as fault:
                faults.append(fault)

        async def delete(key: str) -> None:
            async with slots:
                try:
                    await self._delete(key)
                except StoreFault as fault:
                    faults.append(fault)

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(delete(key), name=f"delete {key}")
        if faults:
            raise faults[0]

    async def _delete(self, key: str) -> None:
        with translated(self._location), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)


async def _ended(future: asyncio.Future[PutResult], buffers: PartBuffers) -> None:
    """Wait for an upload; if cancelled, have obstore abort it.

    Cancelling obstore's future would drop the upload where it is and leave its parts in the bucket for ever. It aborts
    properly when its input fails, so that is what happens.
    """
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        buffers.stop()
        try:
            await finish(_wait(future), within_s=_ABORT_WITHIN_S, name="abort an upload")
        finally:
            if not future.cancel():
                future.exception()  # Looked at, or asyncio would complain that nobody did.
        raise


async def _wait(future: asyncio.Future[PutResult]) -> None:
    await asyncio.wait({future})
