"""One ComfyUI's WebSocket: opened before the first submission, kept open, its events handed to who follows a prompt.

ComfyUI sends a prompt's events only to the client that submitted it (`server.py`, `send_sync(…, client_id)`), so one
socket carries all of ours, told apart by the `prompt_id` that we mint.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from comfyworker.comfyui._wire import parse_json
from comfyworker.comfyui.previews import FEATURES, Preview, read_preview
from comfyworker.deferred import aiohttp
from comfyworker.settings import ComfyUISettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_HEARTBEAT_S = 30.0  # nodes may hold the interpreter for seconds while a model loads; a shorter one would cut for that
_SHORT_LIFE_S = 0.1


class Follower(Protocol):
    """Somebody who waits for a prompt."""

    def on_event(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Take one event; called for each, in order, on the event loop."""

    def on_preview(self, preview: Preview) -> None:
        """Take one preview; called on the event loop."""

    def on_connection_change(self) -> None:
        """Notice that the socket was lost or opened again: events may have been missed."""

    def on_abort(self, error: Exception) -> None:
        """Notice that the prompt is lost."""


class EventSocket:
    """The WebSocket to one ComfyUI, opened again whenever it breaks."""

    def __init__(self, url: str, session: aiohttp.ClientSession, settings: ComfyUISettings) -> None:
        """Prepare for the ComfyUI at `url`; `run` opens the socket."""
        self.client_id = uuid.uuid4().hex
        self.is_open = False
        self.openings = 0
        """How often the socket has been opened; a follower that sees it change has missed events."""
        self.breaks = 0
        """How often it broke without our doing, as it does when ComfyUI ends."""
        self.heard_at = time.monotonic()
        """Clock (`time.monotonic`) at which something came over it last."""
        self._is_closing = False
        self.on_trouble: Callable[[], None] = lambda: None
        """Called whenever it could not be opened."""
        self._url = f"{url}/ws?clientId={self.client_id}"
        self._session = session
        self._settings = settings
        self._followers: dict[str, Follower] = {}
        self._at_work: Follower | None = None
        self._failures = 0
        self._ended: Exception | None = None
        self._changed = asyncio.Event()
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    def follow(self, prompt_id: str, follower: Follower) -> None:
        """Hand every event of `prompt_id` to `follower` from now on."""
        self._followers[prompt_id] = follower

    def unfollow(self, prompt_id: str) -> None:
        """Stop handing on the events of `prompt_id`."""
        gone = self._followers.pop(prompt_id, None)
        if gone is self._at_work:
            self._at_work = None

    def is_followed(self, prompt_id: str) -> bool:
        """Tell whether somebody waits for `prompt_id`."""
        return prompt_id in self._followers

    def abort(self, error: Exception) -> None:
        """Tell every follower that its prompt is lost, and whoever comes for the socket that there is none any more."""
        self._ended = error
        self._changed.set()
        for follower in tuple(self._followers.values()):
            follower.on_abort(error)

    async def wait_usable(self) -> None:
        """Wait until the socket is open, or until it is clear that there is none to be had.

        In the second case whoever follows a prompt has to ask over HTTP.

        Raises:
            Exception: what `abort` was given, since nobody opens this socket any more: a job may come for it in the
                moment between the socket's end and the news of the process's.
        """
        while self._ended is None and not self.is_open and not self._is_hopeless():
            self._changed.clear()
            await self._changed.wait()
        if self._ended is not None:
            raise self._ended

    async def reopen(self) -> None:
        """Close the socket, so that it is opened anew: ComfyUI may have lost us without noticing."""
        if self._socket is not None:
            self._is_closing = True
            await self._socket.close()

    async def run(self) -> None:
        """Keep the socket open until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun_at = loop.time()
            try:
                await self._listen()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._failures += 1
                log.debug("socket.open_failed", error=type(error).__name__, failures=self._failures)
                self._tell_changed()
                self.on_trouble()
                await asyncio.sleep(self._settings.websocket_reconnect_delay_s)
            else:
                # Tried again at once, since mostly it was just cut; but never in a busy circle with a server
                # that accepts and closes.
                is_short = loop.time() - begun_at < _SHORT_LIFE_S
                await asyncio.sleep(_SHORT_LIFE_S if is_short else 0)

    def _is_hopeless(self) -> bool:
        return self._failures >= self._settings.websocket_reconnect_attempts

    async def _listen(self) -> None:
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
        async with asyncio.timeout(self._settings.connect_timeout_s + self._settings.read_timeout_s):
            socket = await self._session.ws_connect(self._url, heartbeat=_HEARTBEAT_S, max_msg_size=0, timeout=timeout)
        try:
            self._socket = socket
            self.heard_at = time.monotonic()
            self._failures = 0
            self.is_open = True
            self.openings += 1
            self._is_closing = False
            log.debug("socket.opened", openings=self.openings)
            self._tell_changed()
            await socket.send_str(FEATURES)
            async for message in socket:
                self.heard_at = time.monotonic()
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._dispatch(message.data)
                elif message.type == aiohttp.WSMsgType.BINARY:
                    self._dispatch_preview(message.data)
        finally:
            self.is_open = False
            self._socket = None
            self.breaks += not self._is_closing
            log.debug("socket.closed", close_code=socket.close_code)
            self._tell_changed()
            await socket.close()

    def _dispatch(self, frame: str) -> None:
        if self._settings.websocket_trace:
            log.debug("socket.frame_received", frame=frame[:2000])
        try:
            message = parse_json(frame)
        except ValueError:
            log.warning("socket.frame_ignored", size_bytes=len(frame))
            return
        payload = message.get("data") if isinstance(message, dict) else None
        if not isinstance(payload, dict):
            return
        # On a reconnect ComfyUI repeats `executing` without a prompt_id: it belongs to nobody that we can name.
        follower = self._followers.get(str(payload.get("prompt_id")))
        if follower is None:
            return
        self._at_work = follower
        try:
            follower.on_event(str(message.get("type")), payload)
        except Exception:
            # Custom nodes send events under ComfyUI's names in shapes of their own: one such frame must not end the
            # socket, and with it every job on this ComfyUI.
            log.exception("socket.event_failed", event_type=str(message.get("type")))

    def _dispatch_preview(self, frame: bytes) -> None:
        preview = read_preview(frame)
        if preview is None:
            return
        # ComfyUI runs one prompt at a time: one that is not named is that of the last event.
        follower = self._at_work if preview.prompt_id is None else self._followers.get(preview.prompt_id)
        if follower is not None:
            follower.on_preview(preview)

    def _tell_changed(self) -> None:
        self._changed.set()
        for follower in tuple(self._followers.values()):
            follower.on_connection_change()
