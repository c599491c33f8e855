"""One ComfyUI's HTTP API.

Routes and shapes: ComfyUI's `server.py` (read at 0.3.75). What aiohttp raises is translated here; nothing of it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, JsonValue
from yarl import URL

from comfyworker.comfyui._wire import parse_json
from comfyworker.deferred import aiohttp
from comfyworker.errors import ComfyUIUnreachable, InvalidRequest
from comfyworker.jobs import Graph
from comfyworker.redaction import redact
from comfyworker.settings import ComfyUISettings

CHUNK_BYTES = 1 << 20

_HTTP_OK = 200
_HTTP_BAD_REQUEST = 400
_HTTP_FORBIDDEN = 403
_HTTP_NOT_FOUND = 404
_HTTP_TOO_LARGE = 413


class SubmissionRefused(Exception):
    """ComfyUI found the workflow invalid (HTTP 400); `body` says why. Translated before it leaves the room."""

    def __init__(self, body: object) -> None:
        """Keep ComfyUI's answer."""
        super().__init__("ComfyUI refused the workflow")
        self.body = body


class NotConnected(ComfyUIUnreachable):
    """No connection could be made: whatever was to be sent has certainly not arrived."""


class OutcomeUnknown(ComfyUIUnreachable):
    """The connection broke after a submission was sent: whether ComfyUI took it has to be found out."""


class QueueView(BaseModel):
    """The ids in ComfyUI's queue."""

    model_config = ConfigDict(frozen=True)

    running: frozenset[str]
    pending: frozenset[str]
    client_ids: Mapping[str, str] = {}
    """Who submitted each of them, where ComfyUI was told."""


class ComfyUIClient:
    """Speaks HTTP to one ComfyUI. The session belongs to the caller."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        settings: ComfyUISettings,
        *,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """Speak to a ComfyUI.

        Args:
            url: Scheme, host, port, maybe a path prefix.
            session: What carries the requests.
            settings: The limits of a connection.
            on_refused: Called whenever no connection could be made.
        """
        self.url = url.rstrip("/")
        self.heard_at = time.monotonic()
        """Clock (`time.monotonic`) at which ComfyUI answered last, whatever it answered."""
        self._session = session
        self._on_refused = on_refused
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
        )

    async def submit(
        self, graph: Graph, *, prompt_id: str, client_id: str, extra_data: Mapping[str, JsonValue]
    ) -> Mapping[str, Any]:
        """Put a workflow into ComfyUI's queue under the id that we minted; return the nodes that ComfyUI left out.

        Raises:
            SubmissionRefused: ComfyUI found it invalid; nothing was queued.
            InvalidRequest: it is larger than ComfyUI takes, or holds what no JSON can.
            OutcomeUnknown: the connection broke before the answer came.
            NotConnected: nothing was sent.
            ComfyUIUnreachable: ComfyUI answered with something else; it was not taken.
        """
        body = _written({"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra_data})
        with self._translated("POST", "/prompt", unsure=True):
            async with self._session.post(
                f"{self.url}/prompt",
                # As a stream: aiohttp warns of large bytes, since it would write them in one go.
                data=io.BytesIO(body),
                headers={"Content-Type": "application/json"},
                timeout=self._timeout,
            ) as answer:
                content = await answer.read()
                if answer.status == _HTTP_TOO_LARGE:
                    raise InvalidRequest(
                        "the workflow is larger than ComfyUI takes",
                        hint="Send pictures as input files, not inside the workflow, or raise ComfyUI's "
                        "--max-upload-size.",
                    )
                if answer.status == _HTTP_BAD_REQUEST:
                    raise SubmissionRefused(_parse_refusal(content))
                self._check(answer, "POST", "/prompt")
        parsed = _parse(content, "POST /prompt")
        node_errors = parsed.get("node_errors") if isinstance(parsed, dict) else None
        return node_errors if isinstance(node_errors, dict) else {}

    async def queue(self) -> QueueView:
        """Return which prompts ComfyUI runs now and which wait there."""
        body = await self._get("/queue")
        # Entries are [number, prompt_id, prompt, extra_data, outputs].
        running, pending = body.get("queue_running") or (), body.get("queue_pending") or ()
        return QueueView(
            running=frozenset(str(item[1]) for item in running),
            pending=frozenset(str(item[1]) for item in pending),
            client_ids={str(item[1]): str(item[3]["client_id"]) for item in (*running, *pending) if _has_client(item)},
        )

    async def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        """Return what ComfyUI remembers of a finished prompt; None if it has not finished or is not known."""
        body = await self._get(f"/history/{prompt_id}")
        entry = body.get(prompt_id)
        return entry if isinstance(entry, dict) else None

    async def delete_pending(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, if it waits there."""
        await self._post("/queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Stop a prompt, if it is the running one."""
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def object_info(self, class_type: str | None = None) -> dict[str, Any]:
        """Return what ComfyUI says of its node classes, or of one of them (empty if there is none of that name)."""
        if class_type is None:
            return await self._get("/object_info")
        if class_type in {"", ".", ".."}:
            return {}
        # The name comes from a request and must not become a way to another route.
        return await self._get("/object_info", quote(class_type, safe=""))

    async def system_stats(self) -> dict[str, Any]:
        """Return versions, devices and memory."""
        return await self._get("/system_stats")

    def view_url(self, filename: str, subfolder: str, folder_type: str) -> str:
        """Return the URL at which ComfyUI serves one of its files, without a user's name or password."""
        query = {"filename": filename, "subfolder": subfolder, "type": folder_type}
        return str(URL(f"{self.url}/view").with_user(None).with_query(query))

    async def view(self, filename: str, subfolder: str, folder_type: str) -> AsyncGenerator[bytes, None]:
        """Stream one of ComfyUI's files, chunk by chunk.

        Raises:
            FileNotFoundError: ComfyUI has no such file.
            PermissionError: ComfyUI serves no file of such a name (server.py, view_image: two dots in it, for one).
            ComfyUIUnreachable: it does not answer, or the stream broke.
        """
        query = {"filename": filename, "subfolder": subfolder, "type": folder_type}
        with self._translated("GET", "/view"):
            async with self._session.get(f"{self.url}/view", params=query, timeout=self._timeout) as answer:
                if answer.status == _HTTP_NOT_FOUND:
                    raise FileNotFoundError(errno.ENOENT, "ComfyUI has no such file", filename)
                if answer.status in {_HTTP_BAD_REQUEST, _HTTP_FORBIDDEN}:
                    raise PermissionError(errno.EACCES, "ComfyUI serves no file of this name", filename)
                self._check(answer, "GET", "/view")
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    yield chunk

    async def upload(self, name: str, subfolder: str, data: bytes | Path) -> None:
        """Put a file into ComfyUI's input folder.

        An equal file that is there already is left alone, since a node may be reading it; ComfyUI compares them.
        """
        if await self._upload(name, subfolder, data, overwrite=False) != name:
            # Another file had that name, and ComfyUI chose a new one: a broken upload of ours, for names are hashes.
            await self._upload(name, subfolder, data, overwrite=True)

    async def _upload(self, name: str, subfolder: str, data: bytes | Path, *, overwrite: bool) -> str:
        form = aiohttp.FormData()
        fields = {"type": "input", "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
        for key, value in fields.items():
            form.add_field(key, value)
        content = io.BytesIO(data) if isinstance(data, bytes) else await asyncio.to_thread(data.open, "rb")
        with content, self._translated("POST", "/upload/image"):
            form.add_field("image", content, filename=name, content_type="application/octet-stream")
            async with self._session.post(f"{self.url}/upload/image", data=form, timeout=self._timeout) as answer:
                self._check(answer, "POST", "/upload/image")
                body = _parse(await answer.read(), "POST /upload/image")
        return str(body.get("name")) if isinstance(body, dict) else name

    async def _get(self, route: str, encoded_name: str | None = None) -> dict[str, Any]:
        url = URL(f"{self.url}{route}")
        if encoded_name is not None:
            url = url.joinpath(encoded_name, encoded=True)
        with self._translated("GET", route):
            async with self._session.get(url, timeout=self._timeout) as answer:
                self._check(answer, "GET", route)
                body = _parse(await answer.read(), f"GET {route}")
        if not isinstance(body, dict):
            raise ComfyUIUnreachable(f"ComfyUI answered GET {route} with {type(body).__name__}, not with an object")
        return body

    async def _post(self, route: str, body: Mapping[str, JsonValue]) -> None:
        with self._translated("POST", route):
            async with self._session.post(f"{self.url}{route}", json=body, timeout=self._timeout) as answer:
                self._check(answer, "POST", route)

    def _check(self, answer: aiohttp.ClientResponse, method: str, route: str) -> None:
        self.heard_at = time.monotonic()
        if answer.status != _HTTP_OK:
            raise ComfyUIUnreachable(
                f"ComfyUI answered {method} {route} with HTTP {answer.status}",
                hint="ComfyUI's own log says why; a custom node or a proxy in front of it is the usual cause.",
                details={"status": answer.status},
            )

    @contextlib.contextmanager
    def _translated(self, method: str, route: str, *, unsure: bool = False) -> Iterator[None]:
        """Turn what aiohttp raises into our errors; `unsure` where a broken connection leaves the outcome open."""
        place = f"{method} {route}"
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._on_refused()
            raise NotConnected(
                f"ComfyUI does not accept connections ({place})",
                hint="Check that it runs and that COMFY_API_URL is right; `comfyworker doctor` tells what was found.",
            ) from error
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:  # noqa: UP041  # aiohttp's own words
            kind = OutcomeUnknown if unsure else ComfyUIUnreachable
            raise kind(f"the connection to ComfyUI broke ({place}: {type(error).__name__})") from error


def _has_client(item: Sequence[Any]) -> bool:
    # A proxy before several ComfyUIs may leave out what it does not need itself.
    return len(item) > 3 and isinstance(item[3], Mapping) and "client_id" in item[3]


def _written(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(
            "the workflow cannot be sent to ComfyUI: a value in it is nested too deeply, or a whole number of more "
            "than 64 bits",
            hint="Correct what the workflow, its overrides and modifications hold.",
        ) from error


def _parse_refusal(content: bytes) -> object:
    """Return the body of a 400; its text where that is no JSON, as a proxy's or a custom node's may be."""
    try:
        return _parse(content, "POST /prompt")
    except ComfyUIUnreachable:
        return redact(content.decode(errors="replace"))


def _parse(content: bytes, place: str) -> Any:  # noqa: ANN401  # JSON from outside: checked by who reads it
    try:
        return parse_json(content)
    except ValueError as error:
        raise ComfyUIUnreachable(
            f"ComfyUI answered {place} with something that is not JSON",
            hint="Is COMFY_API_URL really a ComfyUI, and not a login page or a proxy?",
        ) from error
