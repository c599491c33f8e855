"""The routes of sessions, and the one by which Vast updates its own workers; answered as Vast's SDK does.

Beside them, the SDK opens a second port without TLS, for `/session/end` alone: a program on the same machine, behind
the SDK's proxy, ends a session there. Nothing stands behind this worker, so there is none: the port would show
`session_auth`, which is all that a session is protected by, to the network in clear.
Wire source: Vast's SDK, `Backend.session_create_handler` and those beside it; `server.py` `start_server_async`.
"""

from __future__ import annotations

import functools
import hmac
import math
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.errors import InvalidRequest, NotFound, Problem, Unauthorized, WorkerError
from comfyworker.hosts.http.limits import read_json
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Router
from comfyworker.hosts.http.vast.codes import code_of_error
from comfyworker.hosts.vast.on_close import OnClose, read_on_close
from comfyworker.hosts.vast.reception import Reception
from comfyworker.hosts.vast.sessions import LONGEST_LIFETIME_S, USUAL_LIFETIME_S, Session
from comfyworker.hosts.vast.signatures import parse_auth
from comfyworker.hosts.vast.workload import workload_of_cost

_CREATED = 201
_NO_SUCH_SESSION = 400
_ENDED_ALREADY = 410
_NOT_FROM_HERE = 501
_CREATE: Final = 'Send {"auth_data": {…}, "payload": {"lifetime": 60}}.'
_ASK: Final = 'Send {"session_id": "…", "session_auth": {…}}.'


class SessionRoutes:
    """Answers what clients ask about sessions."""

    def __init__(self, reception: Reception, *, allow_private_urls: bool, master_token: SecretStr | None) -> None:
        """Answer for the sessions that `reception` knows.

        Args:
            reception: Lets in who may open one.
            allow_private_urls: Whether `on_close_route` may lead into private networks.
            master_token: What Vast proves with who it is, for `/pyworker/update`.
        """
        self._reception = reception
        self._allow_private_urls = allow_private_urls
        self._master_token = master_token

    async def create(self, request: Request) -> Response:
        """Open a session, if Vast's router has sent its client here."""
        reception = self._reception
        body = _object(await read_json(request), _CREATE)
        auth = parse_auth(body.get("auth_data"))
        payload = _object(body.get("payload") or {}, _CREATE)
        lifetime_s, on_close = _lifetime_s(payload), self._on_close(payload)
        form = await reception.signatures.check(auth)
        reception.replays.begin(auth, form)
        is_answered = False
        try:
            try:
                reception.admission.check_ready()
            except WorkerError:
                reception.ledger.reject(auth, workload_of_cost(auth.cost))
                raise
            session = reception.sessions.open(auth, lifetime_s=lifetime_s, on_close=on_close)
            is_answered = True
        finally:
            reception.replays.end(auth, form, answered=is_answered)
        return json_answer({"session_id": session.id, "expiration": session.expires_at}, _CREATED)

    async def get(self, request: Request) -> Response:
        """Tell what a session was opened with, and how long it lasts."""
        session_id, session = await self._asked(request)
        if session is None:
            return json_answer({"error": "session does not exist"}, _NO_SUCH_SESSION)
        on_close = session.on_close
        return json_answer(
            {
                "session_id": session_id,
                "auth_data": session.auth.as_sent,
                "lifetime": session.lifetime_s,
                "expiration": session.expires_at,
                "created_at": session.created_at,
                "on_close_route": on_close.route if on_close else None,
                "on_close_payload": on_close.payload if on_close else None,
            }
        )

    async def health(self, request: Request) -> Response:
        """Tell whether a session is open."""
        _, session = await self._asked(request)
        return json_answer({"ok": session is not None})

    async def end(self, request: Request) -> Response:
        """End a session."""
        session_id, session = await self._asked(request)
        if session is None:
            return json_answer({"error": f"session with id {session_id} not found"}, _NO_SUCH_SESSION)
        if not self._reception.sessions.end(session):
            return json_answer({"error": "session already closed"}, _ENDED_ALREADY)
        return json_answer({"ended": True, "removed_session": session_id})

    async def update(self, request: Request) -> Response:
        """Say that this worker does not update itself.

        The SDK's leaves a file for the script around it, which then fetches new code and starts it. This one is part
        of its image, and nothing around it would look for that file: to say yes would be untrue.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else scheme
        wanted = self._master_token.get_secret_value() if self._master_token else ""
        if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
            raise Unauthorized(
                "unauthorized", hint="Only Vast, which knows the worker's MASTER_TOKEN, may ask for this."
            )
        message = "this worker is part of its image: start its instances anew with another image to update it"
        return json_answer({"ok": False, "error": message}, _NOT_FROM_HERE)

    async def _asked(self, request: Request) -> tuple[str, Session | None]:
        """Return the id that is asked about, and the session if it is open and the client's.

        Raises:
            InvalidRequest: no id is given.
            Unauthorized: the session is somebody else's.
        """
        body = _object(await read_json(request), _ASK)
        session_id = body.get("session_id")
        if not isinstance(session_id, str) or not session_id:
            raise _invalid("session_id", "missing session_id", _ASK)
        session = self._reception.sessions.find(session_id)
        if session is not None:
            session.check(body.get("session_auth"))
        return session_id, session

    def _on_close(self, payload: Mapping[str, JsonValue]) -> OnClose | None:
        route, told = payload.get("on_close_route"), payload.get("on_close_payload")
        return read_on_close(route, told, allow_private=self._allow_private_urls)


def session_api(reception: Reception, *, allow_private_urls: bool, master_token: SecretStr | None) -> HttpApi:
    """Return the API of sessions."""
    routes = SessionRoutes(reception, allow_private_urls=allow_private_urls, master_token=master_token)
    return HttpApi(
        name="vast-sessions",
        prefixes=("/session", "/pyworker"),
        router=functools.partial(_router, routes),
        render_error=render_error,
    )


def render_error(error: WorkerError) -> Response:
    """Return the answer for a request that is refused, as the SDK's clients read it."""
    code = code_of_error(error)
    headers = {} if code.retry_after_s is None else {"Retry-After": str(math.ceil(code.retry_after_s))}
    message = error.message if isinstance(error, NotFound) or not error.hint else f"{error.message}. {error.hint}"
    return json_answer({"error": message, "error_code": error.code}, code.status, headers)


def _router(routes: SessionRoutes) -> Router:
    made = Router(tag="Vast")
    made.add("/session/create", routes.create, methods=("POST",))
    made.add("/session/get", routes.get, methods=("POST",))
    made.add("/session/health", routes.health, methods=("POST",))
    made.add("/session/end", routes.end, methods=("POST",))
    made.add("/pyworker/update", routes.update, methods=("POST",))
    return made


def _object(body: object, hint: str) -> Mapping[str, JsonValue]:
    if not isinstance(body, dict):
        raise _invalid("", "the request and its payload must be JSON objects", hint)
    return body


def _lifetime_s(payload: Mapping[str, JsonValue]) -> float:
    value = payload.get("lifetime", USUAL_LIFETIME_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_LIFETIME_S:
        text = f"payload.lifetime must be a number of seconds, above 0 and at most {LONGEST_LIFETIME_S:g}"
        raise _invalid("payload.lifetime", text, _CREATE)
    return float(value)


def _invalid(path: str, message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, hint=hint, problems=[Problem(message=message, path=path, code="invalid_value")])
