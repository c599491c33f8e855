"""A look whether a storage works: a tiny object is written, read by its URL, and removed."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from yarl import URL

from comfyworker.deferred import aiohttp
from comfyworker.delivery.store._sigv4 import quote_key
from comfyworker.delivery.store.connecting import Stores
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.parts import PartBuffers
from comfyworker.delivery.store.target import Target
from comfyworker.errors import InsufficientStorage
from comfyworker.finishing import finish

_CONTENT = b"comfyworker looks whether this storage works; this object may be removed.\n"
_READ_WITHIN_S = 30.0


class ProbeStep(BaseModel):
    """One thing that was tried."""

    model_config = ConfigDict(frozen=True)

    name: str
    """connect | write | acl | read | delete"""
    is_ok: bool
    message: str
    hint: str | None = None
    took_s: float


async def probe(stores: Stores, location: StoreLocation) -> tuple[ProbeStep, ...]:
    """Return what came of each step, up to the first that failed; a written object is removed in any case."""
    search = _Probe(stores, location)
    await search.run()
    return tuple(search.steps)


class _Probe:
    def __init__(self, stores: Stores, location: StoreLocation) -> None:
        self._stores = stores
        self._location = location
        folder = "/".join(part.strip("/") for part in (location.prefix, stores.settings.prefix) if part.strip("/"))
        name = f"comfyworker-check-{uuid.uuid4().hex}.txt"
        self._key = f"{folder}/{name}" if folder else name
        self._target: Target | None = None
        self.steps: list[ProbeStep] = []

    async def run(self) -> None:
        """Try one after the other."""
        acl = self._location.acl
        if not await self._step("connect", "the connection is prepared", self._connect):
            return
        try:
            if not await self._step("write", "an object can be written", self._write):
                return
            if acl is not None:
                await self._step("acl", f"the ACL {acl} can be set", self._set_acl)
            await self._step("read", "its URL can be read by whoever has it", self._read)
        except asyncio.CancelledError:
            await finish(self._delete(), within_s=_READ_WITHIN_S, name="probe's object")
            raise
        await self._step("delete", "it can be removed again", self._delete)

    async def _step(self, name: str, message: str, work: Callable[[], Awaitable[None]]) -> bool:
        started = time.monotonic()
        hint = None
        is_ok = False
        try:
            await work()
            is_ok = True
        except StoreFault as fault:
            message, hint = f"{self._location.place}: {fault.reason}", fault.hint
        except InsufficientStorage as error:
            message, hint = error.message, error.hint
        took_s = round(time.monotonic() - started, 4)
        self.steps.append(ProbeStep(name=name, is_ok=is_ok, message=message, hint=hint, took_s=took_s))
        return is_ok

    async def _connect(self) -> None:
        self._target = await self._stores.open(self._location)

    async def _write(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(_CONTENT)
            file.flush()
            await self._connected().put(self._key, Path(file.name), "text/plain", PartBuffers(1, len(_CONTENT)))

    async def _set_acl(self) -> None:
        await self._connected().set_acl(self._key, self._location.acl or "")

    async def _read(self) -> None:
        base = self._location.public_url
        url = await self._connected().url(self._key, expires_s=600)
        if base is not None:
            url = f"{base.rstrip('/')}/{quote_key(self._key)}"
        if url.startswith("file:"):
            return
        content = await _fetched(url)
        if content != _CONTENT:
            hint = "Look at BUCKET_PUBLIC_URL, and whether the bucket is public." if base else None
            raise StoreFault("what its URL gives is not what was written", hint=hint)

    async def _delete(self) -> None:
        await self._connected().withdraw([self._key])

    def _connected(self) -> Target:
        if self._target is None:
            raise AssertionError  # _connect came before.
        return self._target


async def _fetched(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=_READ_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(URL(url, encoded=True)) as answer,
        ):
            if answer.status != HTTPStatus.OK:
                raise StoreFault(
                    f"its URL is answered with status {answer.status}",
                    hint="Look whether the keys may read objects, and at BUCKET_PUBLIC_URL where one is set.",
                )
            return await answer.content.read(len(_CONTENT) + 1)
    except (aiohttp.ClientError, TimeoutError, OSError):
        raise StoreFault(
            "its URL cannot be reached from here", hint="Look at BUCKET_PUBLIC_URL, or at the endpoint."
        ) from None  # the chain shows the URL
