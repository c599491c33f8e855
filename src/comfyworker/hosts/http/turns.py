"""Requests begin a few at a time, so that hundreds that come at once do not hold up the others for as long."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

_EACH_ROUND = 4
_AT_ONCE = frozenset({"/health", "/ready"})


class Turns:
    """Middleware: in each round of the event loop, at most `each_round` requests begin; probes need not wait.

    Five hundred submissions that arrive together are half a second of work, which the loop would do in one go: who
    asks for /health meanwhile would wait for all of it.
    """

    def __init__(self, app: ASGIApp, *, each_round: int = _EACH_ROUND) -> None:
        """Stand before `app`."""
        self._app = app
        self._each_round = each_round
        self._left = each_round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request when it is its turn."""
        if scope["type"] == "http" and scope["path"] not in _AT_ONCE:
            await self._turn()
        await self._app(scope, receive, send)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._begin_round)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _begin_round(self) -> None:
        self._left = self._each_round
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else the client has gone
                turn.set_result(None)
                self._left -= 1
        self._is_counting = self._left < self._each_round
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._begin_round)
