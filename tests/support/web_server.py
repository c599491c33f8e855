"""What the servers of the tests have in common: they listen while their context lasts."""

import ssl
from types import TracebackType
from typing import Self

from aiohttp import web


class WebServer:
    """Listens on `port`; an async context manager. At its end whatever still waits is cut off."""

    port: int
    listens_on = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    def _application(self) -> web.Application:
        """Return the routes."""
        raise NotImplementedError

    def _end(self) -> None:
        """Release what waits for the end."""

    async def __aenter__(self) -> Self:
        """Listen."""
        application = self._application()
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.listens_on, self.port, ssl_context=self.tls).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go away."""
        self._end()
        await self._runner.cleanup()
