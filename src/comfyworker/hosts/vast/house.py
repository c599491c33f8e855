"""The server of a worker on Vast.ai: the HTTP host's app behind signatures. Loads the web framework."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request

from comfyworker.hosts.http.app import APIS
from comfyworker.hosts.http.auth import ApiKeys
from comfyworker.hosts.http.context import HostContext
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.server import House, open_app
from comfyworker.hosts.http.vast import API, api_behind
from comfyworker.hosts.vast.admission import Admission
from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.reading import reading_api
from comfyworker.hosts.vast.reception import Reception
from comfyworker.hosts.vast.session_routes import session_api
from comfyworker.hosts.vast.sessions import JobKey, Sessions
from comfyworker.hosts.vast.signatures import Signatures
from comfyworker.hosts.worker import Worker
from comfyworker.settings import Settings

_SIGNED = ("/generate", "/result/", "/cancel/", "/queue-info", "/session/", "/pyworker/")
"""POST requests to these say by themselves who sends them."""
_FOR_ALL = ("/health", "/artifacts/")
"""GET requests to these: a sign of life, and URLs that carry their permission."""
_READS = frozenset({"GET", "HEAD"})


@contextlib.asynccontextmanager
async def open_house(
    worker: Worker, settings: Settings, *, ledger: Ledger, signatures: Signatures
) -> AsyncIterator[Starlette]:
    """Make the app that Vast's clients are answered by; sessions end with the context.

    Args:
        worker: Runs the jobs.
        settings: The server's settings, `http.public_url` included.
        ledger: Is told of each request.
        signatures: Know what Vast's router has signed.

    Raises:
        InvalidSettings: another server has this STATE_DIR, or it cannot be used.
    """
    apps: list[Starlette] = []

    def context() -> HostContext:
        found: HostContext = apps[0].state.context  # nobody asks before it is there
        return found

    async def cancel(job: JobKey) -> object:
        return await context().service.cancel(*job)

    admission = Admission(
        ledger,
        max_queue_time_s=settings.vast.max_queue_time_s,
        is_draining=lambda: context().service.counts_now().is_draining,
    )
    sessions = Sessions(
        ledger,
        most=settings.vast.max_sessions,
        allow_private_urls=settings.inputs.allow_private_urls,
        cancel=cancel,
    )
    reception = Reception(
        signatures=signatures,
        ledger=ledger,
        admission=admission,
        sessions=sessions,
        unsecured=settings.vast.unsecured,
    )
    # Unsigned, nobody may ask without a key, also where there are none; but for one's own machine.
    needs_keys = not settings.vast.unsecured
    keys = ApiKeys(settings.http.api_keys, are_needed=needs_keys)
    house = House(
        apis=apis_of(reception, settings),
        needs_keys=needs_keys,
        gate=functools.partial(check_key, keys),
        reason_to_wait=admission.reason_to_wait,
    )
    async with open_app(worker, settings, house) as app:
        apps.append(app)
        async with reception, sessions:
            yield app


def apis_of(reception: Reception, settings: Settings) -> tuple[HttpApi, ...]:
    """Return all that is served; the first that has a path answers."""
    return (
        session_api(
            reception,
            allow_private_urls=settings.inputs.allow_private_urls,
            master_token=settings.vast.master_token,
        ),
        reading_api(reception),
        *(api_behind(reception.door) if api is API else api for api in APIS),
    )


def check_key(keys: ApiKeys, request: Request) -> None:
    """Let through what says by itself who sends it, what anybody may ask, and what has a key.

    Raises:
        Unauthorized: a key is needed, and this is none of ours.
    """
    path = request.url.path
    is_signed = request.method == "POST" and path.startswith(_SIGNED)
    if is_signed or (request.method in _READS and path.startswith(_FOR_ALL)):
        return
    keys.owner_of(request.headers.get("authorization"))
