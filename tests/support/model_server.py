"""A server of models that behaves as those in the wild do, well and badly, and counts what it sends."""

import asyncio
import contextlib
import hashlib
import re
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from support.ports import free_port
from support.web_server import WebServer

CHUNK_BYTES = 64 * 1024
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"


@dataclass
class Model:
    """A file that is served, and how."""

    body: bytes
    content_type: str = "application/octet-stream"
    takes_ranges: bool = True
    has_length: bool = True
    """Whether its length is said; without it, the end of the connection is the end of the file."""
    has_validators: bool = True
    """Whether it has an ETag."""
    disposition: str | None = None
    rate: float | None = None
    """Bytes a second of each connection."""
    stalls_after: int | None = None
    """How many bytes of all requests are sent before `ModelServer.released` is waited for."""
    cuts: int = 0
    """How many answers are cut in their middle."""
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses, with their headers, that the next requests for more than the first byte are answered with."""
    most_connections: int | None = None
    """More at the same time are answered with 429."""
    told_length: int | None = None
    """A length that is said instead of the true one."""
    range_shift: int = 0
    """By how much the ranges that it sends are others than those that it was asked for."""
    status: int | None = None
    """What everybody is answered with."""
    token: str | None = None
    """Who has none is refused."""
    gate: str | None = None
    """The Hub's X-Error-Code for whoever has no token."""
    headers: dict[str, str] = field(default_factory=dict)
    """More headers of each answer."""
    _hashed: tuple[bytes, str] | None = None

    @property
    def sha256(self) -> str:
        """What its content has; computed once for each content."""
        if self._hashed is None or self._hashed[0] is not self.body:
            self._hashed = (self.body, hashlib.sha256(self.body).hexdigest())
        return self._hashed[1]

    @property
    def etag(self) -> str:
        """Another one for another content."""
        return f'"{self.sha256[:32]}"'


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    host: str
    headers: dict[str, str]


class ModelServer(WebServer):
    """Serves `models` by name, in several manners; an async context manager.

    - `/files/NAME` as it is; `/lone/NAME` the same, where no name can be read from the path.
    - `/signed/NAME` leads to another host name, where a signed URL works until `expire` is called, and refuses
      whoever shows an Authorization header.
    - `/login/NAME` is a page for people; `/loop` leads to itself; `/page-later/NAME` is led to a page,
      `/plain/NAME` from https to http.
    - `/api/download/models/NAME` as Civitai: HEAD is answered with 401, GET leads to a signed URL, or to its login.
    - `/OWNER/REPOSITORY/resolve/REVISION/NAME` as Hugging Face's Hub.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Prepare it; nothing listens yet. With a TLS context it serves https."""
        self.port = free_port()
        self.models: dict[str, Model] = {}
        self.asked: list[Asked] = []
        self.sent: Counter[str] = Counter()
        """Bytes of each model that were handed to its connections."""
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.stalled = asyncio.Event()
        self.released = asyncio.Event()
        self.link_rate: float | None = None
        """Bytes a second of all connections together."""
        self._link_free_at = 0.0
        self.hub_revisions: set[str] = {"main", COMMIT}
        self._generation = 0
        self.tls = context

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def add(self, name: str, model: Model) -> Model:
        """Serve a model."""
        self.models[name] = model
        return model

    def expire(self) -> None:
        """End the time of all signed URLs."""
        self._generation += 1

    def asked_for(self, start: str) -> list[Asked]:
        """Return the requests for paths that begin with `start`."""
        return [asked for asked in self.asked if asked.path.startswith(start)]

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.router.add_route("*", "/files/{name}", self._file)
        app.router.add_route("*", "/lone/{name}/", self._file)
        app.router.add_route("*", "/signed/{name}", self._lead_to_signed)
        app.router.add_route("*", "/store/{name}", self._signed)
        app.router.add_get("/login/{name}", self._page)
        app.router.add_get("/login", self._page)
        app.router.add_get("/loop", self._loop)
        app.router.add_get("/plain/{name}", self._lead_to_http)
        app.router.add_get("/page-later/{name}", self._lead_to_page)
        app.router.add_route("*", "/api/download/models/{name}", self._civitai)
        app.router.add_route("*", "/{owner}/{repository}/resolve/{revision}/{name:.*}", self._hub)
        return app

    def _end(self) -> None:
        self.released.set()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.path_qs, request.host, dict(request.headers)))
        return await handler(request)

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=LOGIN_PAGE, content_type="text/html")

    async def _loop(self, _request: web.Request) -> web.StreamResponse:
        return _led("/loop")

    async def _lead_to_http(self, request: web.Request) -> web.StreamResponse:
        return _led(f"http://localhost:{self.port}/files/{request.match_info['name']}")

    async def _lead_to_page(self, request: web.Request) -> web.StreamResponse:
        return _led(f"/login/{request.match_info['name']}")

    async def _lead_to_signed(self, request: web.Request) -> web.StreamResponse:
        model = self._model(request)
        if model.token not in {None, _token(request)}:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return _led(self._signed_url(request))

    def _signed_url(self, request: web.Request) -> str:
        name = request.match_info["name"]
        return f"{request.scheme}://localhost:{self.port}/store/{name}?signature=SECRET{self._generation}"

    async def _signed(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        if request.method != "GET" or request.query.get("signature") != f"SECRET{self._generation}":
            return web.Response(status=403, text="Request has expired")
        return await self._served(request, refusal=self._busy(request, self._model(request)))

    async def _civitai(self, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=401)
        if self._model(request).token not in {None, _token(request)}:
            return _led("/login?returnUrl=x&reason=download-auth") if not _token(request) else web.Response(status=401)
        return _led(self._signed_url(request))

    async def _hub(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] not in self.models:
            return _hub_refusal(404, "EntryNotFound", "Entry not found")
        if request.match_info["revision"] not in self.hub_revisions:
            return _hub_refusal(404, "RevisionNotFound", "Invalid rev id")
        model = self._model(request)
        if model.token not in {None, _token(request)}:
            if model.gate:
                return _hub_refusal(403 if _token(request) else 401, model.gate, "Access to model is restricted.")
            if _token(request):
                return _hub_refusal(401, "", "Invalid credentials in Authorization header")
            return _hub_refusal(401, "RepoNotFound", "Invalid username or password.")
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"git"'}
        headers |= {"X-Linked-Etag": f'"{model.sha256}"', "X-Linked-Size": str(len(model.body))}
        headers |= {"X-Xet-Hash": model.sha256, "Location": self._signed_url(request)}
        return web.Response(status=302, headers=headers)

    def _model(self, request: web.Request) -> Model:
        if request.match_info["name"] not in self.models:
            raise web.HTTPNotFound
        return self.models[request.match_info["name"]]

    def _refused(self, request: web.Request, model: Model) -> web.StreamResponse | None:
        if model.token not in {None, _token(request)}:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return self._busy(request, model)

    def _busy(self, request: web.Request, model: Model) -> web.StreamResponse | None:
        if model.status is not None:
            return web.Response(status=model.status)
        if request.headers.get("Range") == "bytes=0-0":
            return None
        name = request.match_info["name"]
        if model.most_connections is not None and self.open[name] >= model.most_connections:
            return web.Response(status=429, headers={"Retry-After": "0"})
        if model.refusals:
            status, headers = model.refusals.pop(0)
            return web.Response(status=status, headers=headers)
        return None

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, refusal=self._refused(request, self._model(request)))

    async def _served(self, request: web.Request, *, refusal: web.StreamResponse | None) -> web.StreamResponse:
        if refusal is not None:
            return refusal
        model = self._model(request)
        headers = {"Content-Type": model.content_type, **model.headers}
        if model.has_validators:
            headers["ETag"] = model.etag
        if model.disposition is not None:
            headers["Content-Disposition"] = model.disposition
        stretch = _stretch(request, model)
        status = 200
        body: bytes | memoryview = model.body
        if stretch is not None:
            start, end = (edge + model.range_shift for edge in stretch)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{model.told_length or len(model.body)}"
            status, body = 206, memoryview(model.body)[start:end]
        response = web.StreamResponse(status=status, headers=headers)
        if model.has_length:
            response.content_length = model.told_length if status == 200 and model.told_length else len(body)
        else:
            response.force_close()
        await response.prepare(request)
        # Clients may leave in the middle.
        with self._counted(request.match_info["name"]), contextlib.suppress(ConnectionError):
            await self._send(request, response, model, body)
        return response

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        self.open[name] += 1
        self.most_open[name] = max(self.most_open[name], self.open[name])
        try:
            yield
        finally:
            self.open[name] -= 1

    async def _send(
        self, request: web.Request, response: web.StreamResponse, model: Model, body: bytes | memoryview
    ) -> None:
        name = request.match_info["name"]
        loop = asyncio.get_running_loop()
        begun, sent = loop.time(), 0
        for start in range(0, len(body), CHUNK_BYTES):
            if len(body) > 1 and model.stalls_after is not None and self.sent[name] >= model.stalls_after:
                self.stalled.set()
                await self.released.wait()
            chunk = body[start : start + CHUNK_BYTES]
            if model.cuts and len(body) > 1 and start >= len(body) // 2:
                model.cuts -= 1
                transport = request.transport
                assert transport is not None
                # What was written before is sent; then the connection ends, as one does whose host has gone.
                transport.close()
                return
            await response.write(chunk)
            sent += len(chunk)
            self.sent[name] += len(chunk)
            await asyncio.sleep(max(self._paced(len(chunk)), begun + sent / (model.rate or float("inf"))) - loop.time())

    def _paced(self, size: int) -> float:
        """Return when the link has taken so many bytes more."""
        now = asyncio.get_running_loop().time()
        if self.link_rate is not None:
            self._link_free_at = max(self._link_free_at, now) + size / self.link_rate
            return self._link_free_at
        return now


def _stretch(request: web.Request, model: Model) -> tuple[int, int] | None:
    """Return the range that was asked for, if the file takes ranges and is still the one that was meant."""
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    condition = request.headers.get("If-Range")
    if found is None or not model.takes_ranges or (condition is not None and condition != model.etag):
        return None
    start, end = int(found[1]), min(int(found[2]) + 1, len(model.body))
    if start >= len(model.body):
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{len(model.body)}"})
    return start, end


def _token(request: web.Request) -> str | None:
    return request.headers.get("Authorization", "").removeprefix("Bearer ") or None


def _led(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


def _hub_refusal(status: int, code: str, message: str) -> web.Response:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return web.Response(status=status, headers=headers)
