"""Signed requests that read a job, cancel one, or look at the queue.

Vast's client knows only POST, and what it sends goes to the worker that the router chooses: within a session that is
always the same one, and so its jobs are read there. The `auth_data` of any request here is good for reading, as often
as wanted; a key of API_KEYS, too. What is read costs no workload. Where the client asked the router for this very
request, its end is reported, or the autoscaler would think it at work for ever.
"""

from __future__ import annotations

import functools

from starlette.requests import Request
from starlette.responses import Response

from comfyworker.errors import WorkerError
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.limits import read_body
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Router
from comfyworker.hosts.http.vast.answers import cancel_answer, render_error, result_answer
from comfyworker.hosts.http.vast.routes import queue_info
from comfyworker.hosts.local import parse_json
from comfyworker.hosts.vast.envelope import open_envelope
from comfyworker.hosts.vast.reception import Caller, Reception

_NO_WORKLOAD = 0.0
_CANCELED_WITHIN_S = 10.0


class ReadingRoutes:
    """Answers about jobs that were taken here."""

    def __init__(self, reception: Reception) -> None:
        """Answer whom `reception` knows."""
        self._reception = reception

    async def result(self, request: Request, job_id: str) -> Response:
        """Tell how a job stands, and what came of it; the HTTP code tells the same."""
        caller = await self._caller(request)
        return await result_answer(request, await context_of(request).service.get(caller.owner, job_id))

    async def cancel(self, request: Request, job_id: str) -> Response:
        """Stop a job that waits or runs; one that has ended stays as it is."""
        caller, service = await self._caller(request), context_of(request).service
        record = await service.cancel(caller.owner, job_id)
        if not record.is_terminal:
            record = await service.wait(caller.owner, job_id, timeout_s=_CANCELED_WITHIN_S)
        return json_answer(cancel_answer(record))

    async def queue_info(self, request: Request) -> Response:
        """Tell how much there is to do."""
        caller = await self._caller(request)
        return await queue_info(request, caller.owner)

    async def _caller(self, request: Request) -> Caller:
        raw = await read_body(request)
        body = parse_json(raw) if raw.strip() else {}
        # An empty payload is as good as any: nothing in it is read.
        envelope = open_envelope({"payload": {}, **body} if isinstance(body, dict) and body else body)
        caller = await self._reception.identify(request, envelope)
        self._account(caller)
        return caller

    def _account(self, caller: Caller) -> None:
        """Tell of a request that the router knows, the first time that it comes."""
        if caller.auth is None or caller.in_session:
            return
        replays, ledger = self._reception.replays, self._reception.ledger
        try:
            replays.begin(caller.auth, caller.form)
        except WorkerError:
            return  # It is, or was, a request for a job, which has its own account.
        ledger.succeed(ledger.receive(caller.auth, _NO_WORKLOAD))
        replays.end(caller.auth, caller.form, answered=True)


def reading_api(reception: Reception) -> HttpApi:
    """Return the API of signed reading; it must stand before those that have the same paths for keys."""
    return HttpApi(
        name="vast-reading",
        prefixes=("/result", "/cancel", "/queue-info"),
        router=functools.partial(_router, ReadingRoutes(reception)),
        render_error=render_error,
    )


def _router(routes: ReadingRoutes) -> Router:
    made = Router(tag="Vast")
    # Not in the OpenAPI document: it tells of the same paths for keys, and one path has one description there.
    made.add("/result/{job_id}", routes.result, methods=("POST",))
    made.add("/cancel/{job_id}", routes.cancel, methods=("POST",))
    made.add("/queue-info", routes.queue_info, methods=("POST",))
    return made
