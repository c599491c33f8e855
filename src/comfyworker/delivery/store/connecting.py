"""Connections to storages, one per location, for the worker's whole life."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from types import TracebackType
from typing import Self

from comfyworker.deferred import aiohttp
from comfyworker.delivery.store._folder_target import FolderTarget
from comfyworker.delivery.store._guard import Guard
from comfyworker.delivery.store._s3_requests import S3Requests
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.target import Target
from comfyworker.finishing import in_thread
from comfyworker.outbound.sessions import guarded_session
from comfyworker.settings import StoreSettings

_MAX_KEPT = 8


class Stores:
    """Keeps a connection pool for each location that was asked for last.

    An async context manager; entering it does nothing yet. What a request brings is spoken to through a guard, which
    looks at every address.
    """

    def __init__(self, settings: StoreSettings, *, allow_private_urls: bool = False) -> None:
        """Connect as the settings say.

        Args:
            settings: How long and how often, and how parts are cut.
            allow_private_urls: Let requests name endpoints in private networks.
        """
        self.settings = settings
        self._allow_private = allow_private_urls
        self._kept: OrderedDict[StoreLocation, Target] = OrderedDict()
        self._opening = asyncio.Lock()
        self._guard = Guard(allow_private=allow_private_urls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kept.clear()
        await self._guard.stop()

    async def open(self, location: StoreLocation) -> Target:
        """Return a connection to a location.

        Raises:
            StoreFault: it cannot be connected to: a request's endpoint in a private network, a key that is none.
        """
        if location.is_foreign:
            await self._guard.check(location)
        async with self._opening:
            target = self._kept.get(location)
            if target is None:
                target = await self._made(location)
                self._kept[location] = target
            self._kept.move_to_end(location)
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return target

    async def _made(self, location: StoreLocation) -> Target:
        if location.folder is not None:
            return FolderTarget(location.folder)
        proxy_url = await self._guard.proxy_url() if location.is_foreign else None
        s3 = S3Requests(location, functools.partial(self._session, location))
        return await in_thread(functools.partial(_connected, location, self.settings, s3, proxy_url))

    def _session(self, location: StoreLocation) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=60, sock_connect=location.connect_timeout_s, sock_read=30)
        if location.is_foreign:
            return guarded_session(allow_private=self._allow_private, timeout=timeout)
        return aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False)


def _connected(location: StoreLocation, settings: StoreSettings, s3: S3Requests, proxy_url: str | None) -> Target:
    """Return a connection; in a thread, since importing obstore and reading the system's certificates take time."""
    from comfyworker.delivery.store._obstore_stores import make_store  # noqa: PLC0415  # brings obstore
    from comfyworker.delivery.store._obstore_target import ObstoreTarget  # noqa: PLC0415  # so does this

    store = make_store(location, settings, proxy_url=proxy_url)
    return ObstoreTarget(store, location, s3 if location.kind is StoreKind.S3 else None)
