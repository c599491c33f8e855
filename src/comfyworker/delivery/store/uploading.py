"""A job's files on their way into object storage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from comfyworker.delivery.store._sigv4 import quote_key
from comfyworker.delivery.store.connecting import Stores
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.keys import object_keys
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.parts import PartBuffers
from comfyworker.delivery.store.target import Target
from comfyworker.finishing import finish
from comfyworker.jobs import Artifact, DeliveryFault

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_PARTS = 10_000
_MEBIBYTE = 1024 * 1024
_WITHDRAW_WITHIN_S = 10.0


class StoreDelivery:
    """Brings each file of one job into object storage; texts stay texts."""

    keeps_outputs = False

    def __init__(
        self,
        stores: Stores,
        location: StoreLocation,
        *,
        request_id: str,
        prefix: str | None = None,
        on_artifact: Callable[[Artifact], None] | None = None,
    ) -> None:
        """Deliver one job's files to a location.

        Args:
            stores: The worker's connections.
            location: Where to.
            request_id: The job's id, for the keys.
            prefix: What the request wants each key to begin with; None takes the worker's setting.
            on_artifact: Called in the event loop as each file arrives, with its URL.
        """
        self._stores = stores
        self._location = location
        self._request_id = request_id
        self._prefix = stores.settings.prefix if prefix is None else prefix
        self._on_artifact = on_artifact

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts with `url`, or with `failure` where one did not arrive; the others go on.

        If cancelled, what has arrived is removed again, as far as the storage lets us.

        Raises:
            InsufficientStorage: the storage is a folder, and its disk is full; what was there is removed again.
        """
        files = [artifact for artifact in artifacts if artifact.path is not None]
        if not files:
            return tuple(artifacts)
        try:
            target = await self._stores.open(self._location)
        except StoreFault as fault:
            ended = iter([self._failed(artifact, fault) for artifact in files])
        else:
            ended = iter(await self._upload_all(target, files))
        return tuple(artifact if artifact.path is None else next(ended) for artifact in artifacts)

    async def _upload_all(self, target: Target, files: Sequence[Artifact]) -> list[Artifact]:
        settings = self._stores.settings
        keys = self._keys(files)
        buffers = PartBuffers(settings.parallel, _part_bytes(files, settings.part_bytes))
        slots = asyncio.Semaphore(settings.parallel)
        ended: list[Artifact] = list(files)
        # Another job of the same id may have put the others there.
        begun: list[str] = []

        async def upload(index: int) -> None:
            async with slots:
                begun.append(keys[index])
                ended[index] = await self._upload(target, files[index], keys[index], buffers)

        try:
            async with asyncio.TaskGroup() as group:
                for index, artifact in enumerate(files):
                    group.create_task(upload(index), name=f"upload {artifact.name}")
        except BaseExceptionGroup as errors:
            await self._take_back(begun)
            raise _first(errors) from None  # what the others raised is no more than that they were stopped
        except asyncio.CancelledError:
            await self._take_back(begun)
            raise
        finally:
            buffers.stop()
        return ended

    async def _upload(self, target: Target, artifact: Artifact, key: str, buffers: PartBuffers) -> Artifact:
        started = asyncio.get_running_loop().time()
        try:
            await target.put(key, artifact.path or Path(), artifact.content_type, buffers)
            url = await self._opened(target, key)
        except StoreFault as fault:
            return self._failed(artifact, fault)
        took_s = asyncio.get_running_loop().time() - started
        log.debug("store.uploaded", name=artifact.name, size_bytes=artifact.size_bytes, duration_s=round(took_s, 3))
        arrived = artifact.model_copy(update={"url": url})
        if self._on_artifact is not None:
            self._on_artifact(arrived)
        return arrived

    async def _opened(self, target: Target, key: str) -> str:
        """Return where an object can be read that has just arrived; if it cannot be, remove it."""
        try:
            if self._location.acl is not None:
                await target.set_acl(key, self._location.acl)
            return await self._url(target, key)
        except StoreFault:
            with contextlib.suppress(StoreFault):  # what failed first is what has to be told
                await target.withdraw([key])
            raise

    async def _url(self, target: Target, key: str) -> str:
        base = self._location.public_url
        if base is not None:
            return f"{base.rstrip('/')}/{quote_key(key)}"
        return await target.url(key, expires_s=self._stores.settings.url_expires_s)

    def _failed(self, artifact: Artifact, fault: StoreFault) -> Artifact:
        log.warning("store.upload_failed", name=artifact.name, place=self._location.place, reason=fault.reason)
        told = f"{artifact.name} could not be stored in {self._location.place}: {fault.reason}"
        failure = DeliveryFault(message=told, hint=fault.hint, may_pass=fault.may_pass)
        return artifact.model_copy(update={"failure": failure})

    def _keys(self, files: Sequence[Artifact]) -> list[str]:
        prefix = "/".join(part for part in (self._location.prefix, self._prefix) if part)
        template = self._stores.settings.key_template
        # obstore leaves these as they are in Google's presigned URLs, which then open another object.
        avoid = "#?%" if self._location.kind is StoreKind.GCS else ""
        now = datetime.now(UTC)
        return object_keys(files, template, prefix=prefix, request_id=self._request_id, now=now, avoid=avoid)

    async def _take_back(self, keys: Sequence[str]) -> None:
        await finish(self._withdraw(keys), within_s=_WITHDRAW_WITHIN_S, name="withdraw outputs")

    async def _withdraw(self, keys: Sequence[str]) -> None:
        target = await self._stores.open(self._location)
        await target.withdraw(keys)


def _part_bytes(files: Sequence[Artifact], wanted_bytes: int) -> int:
    """Return the size of parts with which the largest file has no more of them than S3 takes."""
    largest = max(artifact.size_bytes for artifact in files)
    return max(wanted_bytes, -(-largest // (_MAX_PARTS * _MEBIBYTE)) * _MEBIBYTE)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
