"""What Vast's client wraps a request in: `{"auth_data", "session_id", "payload"}`.

Wire source: Vast's SDK, `client/client.py` `_do_request` and `server/lib/data_types.py` `get_data_from_request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from comfyworker.errors import InvalidRequest, Problem


class Envelope(NamedTuple):
    """A request's parts, as they came."""

    auth_data: object
    """None where the request is not signed."""
    session_id: str | None
    payload: object
    """What is asked for; the whole body where it came bare."""

    @property
    def expected_time(self) -> object:
        """What the request says of how long it takes; None if it says nothing."""
        return self.payload.get("expected_time") if isinstance(self.payload, Mapping) else None


def open_envelope(body: object) -> Envelope:
    """Return the parts of a request, wrapped or bare.

    Raises:
        InvalidRequest: there is an envelope with nothing in it, or its `session_id` is no text.
    """
    if not isinstance(body, Mapping) or not body.keys() & {"auth_data", "payload", "session_id"}:
        return Envelope(None, None, body)
    problems = []
    if body.get("payload") is None and body.get("input") is None:
        problems.append(Problem(message="payload is missing", path="payload", code="missing"))
    session_id = body.get("session_id")
    if session_id is not None and not isinstance(session_id, str):
        problems.append(Problem(message="session_id must be text", path="session_id", code="wrong_type"))
    if problems:
        raise InvalidRequest(
            "; ".join(problem.message for problem in problems),
            hint='Send {"auth_data": {…}, "session_id": null, "payload": {"input": {…}}}.',
            problems=problems,
        )
    payload = body if body.get("payload") is None else body["payload"]
    return Envelope(body.get("auth_data"), session_id or None, payload)
