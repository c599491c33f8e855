"""Who may ask for a job on the Vast-shaped routes, and who hears what becomes of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request

from comfyworker.hosts.http.context import owner_of
from comfyworker.hosts.http.limits import read_json
from comfyworker.service import JobRecord


class Visit:
    """One request for a job that was let in; told of what becomes of it. This one keeps no account."""

    def __init__(self, owner: str, body: object) -> None:
        """Know whose the job will be, and what the request says as JSON."""
        self.owner = owner
        self.body = body

    def note_job(self, record: JobRecord) -> None:
        """Hear which job the visitor waits for now."""

    def follow(self, record: JobRecord, *, is_watched: bool) -> None:
        """Hear that the visitor is not kept until the job's end, so that what comes of it has to be found out.

        Args:
            record: The job; it may have ended.
            is_watched: Whether the visitor goes on hearing of it.
        """

    def answered(self, status: int, record: JobRecord | None = None) -> None:
        """Hear the HTTP status that the visitor gets, and of which job, if there is one."""


Door = Callable[[Request], contextlib.AbstractAsyncContextManager[Visit]]
"""Reads a request and lets it in, for as long as it is being answered, or raises a WorkerError."""


@contextlib.asynccontextmanager
async def key_door(request: Request) -> AsyncIterator[Visit]:
    """Let in whoever has an API key, or everybody where there are none.

    Raises:
        Unauthorized: a key is needed, and this is none of ours; the body is not read then.
        WorkerError: the body is too large, or no JSON.
    """
    owner = await owner_of(request)
    yield Visit(owner, await read_json(request))
