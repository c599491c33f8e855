"""Vast.ai's autoscaler, as far as a worker and a client see it: signs requests, and takes reports.

Wire source: Vast's SDK, `serverless/client/endpoint.py` (`/route/`), `client.py` (`/api/v0/endptjobs/`) and
`serverless/server/lib/` (`/pubkey/`, `/worker_status/`, `/delete_requests/`).
"""

import asyncio
import base64
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.eventually import eventually
from support.ports import free_port
from support.web_server import WebServer

TOKEN = "t0ken-of-the-master"
ENDPOINT = "comfy"
API_KEY = "k3y-of-the-client"

SignedFields = Literal["url", "whole", "whole_without_index"]


class Signer:
    """Signs as Vast's router does."""

    def __init__(self) -> None:
        """Make a key."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_pem(self) -> str:
        """The key's public half, as /pubkey/ answers it."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, message: Mapping[str, Any]) -> str:
        """Return the signature of a message."""
        text = json.dumps(message, indent=4, sort_keys=True)
        return base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), SHA256())).decode()

    def auth_data(self, url: str, *, covers: SignedFields = "url", **fields: Any) -> dict[str, Any]:
        """Return signed auth_data for the worker at `url`; `fields` are its other ones."""
        told = {"cost": 100, "endpoint": ENDPOINT, "reqnum": 1, "request_idx": 101, "url": url, **fields}
        names = {"url": {"url"}, "whole": set(told), "whole_without_index": set(told) - {"request_idx"}}[covers]
        return {**told, "signature": self.sign({name: told[name] for name in names})}


@dataclass(frozen=True)
class Arrival:
    """One report or question."""

    path: str
    at: float
    """Seconds of the monotonic clock."""
    body: Any
    answered: int
    """The status; 0 for none."""


Fault = int | Literal["hang", "cut"]


@dataclass
class VastPlatform(WebServer):
    """The platform for one endpoint with one worker; an async context manager, which listens on a port of its own.

    `faults` are answered first, each to one request whose path they stand under: a status, nothing until the end
    ("hang") or a cut connection. `always` is answered to all.
    """

    signer: Signer = field(default_factory=Signer)
    port: int = field(default_factory=free_port)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    covers: SignedFields = "url"
    arrived: list[Arrival] = field(default_factory=list)
    routed: int = 0
    """How often /route/ gave away the worker."""
    root_certificate: Path | None = None
    """What clients trust beside the system's authorities: Vast's client asks for it before all else."""
    worker_url: str | None = None
    """Where /route/ leads; None: to the worker that has reported to be ready."""

    def __post_init__(self) -> None:
        """Number requests from 1."""
        self._reqnums = itertools.count(1)
        self._indexes = itertools.count(101)
        self._ends = asyncio.Event()

    @property
    def url(self) -> str:
        """Its URL, for REPORT_ADDR and for clients."""
        return f"http://127.0.0.1:{self.port}"

    def taken(self, path: str) -> list[Arrival]:
        """Return the requests to a path that were answered well."""
        return [arrival for arrival in self.arrived if arrival.path == path and arrival.answered == 200]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """The reports of the worker's state that were taken."""
        return [arrival.body for arrival in self.taken("/worker_status/")]

    @property
    def deletes(self) -> list[dict[str, Any]]:
        """The ended requests that were told."""
        return [told for arrival in self.taken("/delete_requests/") for told in arrival.body["requests"]]

    async def until_status(
        self, check: Callable[[dict[str, Any]], bool], *, since: int = 0, within_s: float = 30.0
    ) -> dict[str, Any]:
        """Return the first report from the `since`th on of which `check` is true, when there is one."""

        def found() -> dict[str, Any]:
            status = next((status for status in self.statuses[since:] if check(status)), None)
            assert status is not None, self.statuses[-1:]
            return status

        return await eventually(found, within_s=within_s)

    async def until_deleted(self, count: int, *, within_s: float = 30.0) -> list[dict[str, Any]]:
        """Return the ended requests, when so many were told."""
        await eventually(lambda: len(self.deletes) >= count, within_s=within_s)
        return self.deletes

    def is_ready(self) -> bool:
        """Return whether the worker has reported that it takes requests."""
        return bool(self.statuses) and _is_ready(self.statuses[-1])

    async def forget(self) -> None:
        """Forget what arrived, once the worker has reported that it has nothing to do; its last report is kept."""
        await eventually(lambda: self.statuses[-1]["num_requests_working"] == 0, within_s=30)
        self.arrived[:] = self.taken("/worker_status/")[-1:]

    def route(self, *, cost: float = 100, request_idx: int = 0) -> dict[str, Any]:
        """Return what /route/ answers: a signed place at the worker, or that there is none yet."""
        index = request_idx or next(self._indexes)
        url = self.worker_url or (self.statuses[-1]["url"] if self.is_ready() else None)
        if url is None:
            return {"endpoint": ENDPOINT, "request_idx": index, "status": "no ready worker"}
        self.routed += 1
        numbers = {"cost": cost, "reqnum": next(self._reqnums), "request_idx": index}
        return self.signer.auth_data(url, covers=self.covers, **numbers)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/pubkey/", self._pubkey)
        app.router.add_post("/worker_status/", self._take)
        app.router.add_post("/delete_requests/", self._take)
        app.router.add_post("/route/", self._route)
        app.router.add_get("/api/v0/endptjobs/", self._endpoints)
        app.router.add_get("/static/jvastai_root.cer", self._root_certificate)
        return app

    def _end(self) -> None:
        self._ends.set()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        at, body = time.monotonic(), await request.text()
        waiting = self.faults.get(request.path)
        fault = waiting.popleft() if waiting else self.always.get(request.path)
        told = json.loads(body) if body else None
        if fault == "hang":
            self.arrived.append(Arrival(request.path, at, told, 0))
            await self._ends.wait()
        if fault in {"hang", "cut"}:
            if fault == "cut":
                self.arrived.append(Arrival(request.path, at, told, 0))
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        response = web.Response(status=fault) if isinstance(fault, int) else await handler(request)
        self.arrived.append(Arrival(request.path, at, told, response.status))
        return response

    async def _pubkey(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.signer.public_pem)

    async def _take(self, request: web.Request) -> web.Response:
        told = await request.json()
        return web.json_response({}, status=200 if told["mtoken"] == TOKEN else 401)

    async def _route(self, request: web.Request) -> web.Response:
        told = await request.json()
        return web.json_response(self.route(cost=told["cost"], request_idx=told["request_idx"]))

    async def _root_certificate(self, _request: web.Request) -> web.Response:
        assert self.root_certificate is not None, "a platform with clients needs a certificate for them to trust"
        return web.Response(body=self.root_certificate.read_bytes())

    async def _endpoints(self, _request: web.Request) -> web.Response:
        endpoint = {"id": 1, "endpoint_name": ENDPOINT, "api_key": API_KEY, "user_id": 1, "created_at": 0.0}
        return web.json_response({"results": [endpoint]})


def _is_ready(status: Mapping[str, Any]) -> bool:
    """Return whether Vast would send requests to a worker that reports this."""
    return status["loadtime"] > 0 and status["max_perf"] > 0 and not status["error_msg"]
