"""RunPod's routes, at the root and below `/v2/{endpoint}`, where RunPod's client library looks for them.

Wire source: RunPod's documentation, "Operation reference"; its SDK, `endpoint/runner.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.dialects import choose_dialect, wanted_id
from comfyworker.errors import NotFound, WorkerError
from comfyworker.hosts.http.context import base_url_of, context_of
from comfyworker.hosts.http.health import runpod_health
from comfyworker.hosts.http.limits import read_json
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Owner, Router
from comfyworker.hosts.http.runpod.answers import (
    cancel_answer,
    queued_answer,
    render_error,
    short_answer,
    status_answer,
    stream_answer,
)
from comfyworker.hosts.http.runpod.refused import RefusedJobs
from comfyworker.hosts.http.runpod.streaming import StreamMarks
from comfyworker.hosts.http.runpod.submission import API_NAME, make_submission, read_platform
from comfyworker.hosts.http.vast import answers as vast
from comfyworker.service import JobRecord

Wait = Annotated[int | None, Field(ge=0, description="Milliseconds to wait for the job's end, at most 300000.")]

_LONGEST_WAIT_S = 300.0
_CANCELED_WITHIN_S = 2.0  # RunPod's client gives up after 3 s.
_TAG = "RunPod"
_BELOW = "/v2/{endpoint}"


class RunPodRoutes:
    """The handlers; what they remember beside the service is lost with the process, and may be."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._marks = StreamMarks()
        self._refused = RefusedJobs()

    async def run(self, request: Request, owner: Owner) -> Response:
        """Take a job and answer at once; `/status/{id}` tells what comes of it.

        A job whose `input` is wrong has failed already.
        """
        record = await self._submit(request, owner)
        if record.is_terminal:
            return json_answer(await status_answer(request, record))
        return json_answer(short_answer(record) if record.is_repeat else queued_answer(record))

    async def run_and_wait(self, request: Request, owner: Owner, wait: Wait = None) -> Response:
        """Take a job and answer when it has ended, or has taken too long: then ask for its status."""
        record = await self._submit(request, owner)
        if not record.is_terminal:
            context = context_of(request)
            wait_s = context.settings.http.runsync_wait_s if wait is None else min(wait / 1000, _LONGEST_WAIT_S)
            record = await context.service.wait(owner, record.id, timeout_s=wait_s)
        return json_answer(await status_answer(request, record))

    async def status(self, request: Request, owner: Owner, job_id: str) -> Response:
        """Tell how a job stands, and what came of it."""
        return json_answer(await status_answer(request, await self._find(request, owner, job_id)))

    async def stream(self, request: Request, owner: Owner, job_id: str) -> Response:
        """Hand out the files that were finished since the last call; each is handed out once."""
        record = await self._find(request, owner, job_id)
        return json_answer(await stream_answer(request, record, self._marks.take(record)))

    async def cancel(self, request: Request, owner: Owner, job_id: str) -> Response:
        """Stop a job that waits or runs; one that has ended stays as it is."""
        return json_answer(cancel_answer(await self._cancel(request, owner, job_id)))

    async def cancel_any(self, request: Request, owner: Owner, job_id: str) -> Response:
        """Stop a job that waits or runs; one that has ended stays as it is.

        RunPod's clients and Vast's have this path in common: who sent the job is answered in the words of its route.
        """
        record = await self._cancel(request, owner, job_id)
        return json_answer(vast.cancel_answer(record) if record.api == vast.API_NAME else cancel_answer(record))

    async def retry(self, request: Request, owner: Owner, job_id: str) -> Response:
        """Run a job that has failed once more, under the same id."""
        try:
            record = await context_of(request).service.retry(owner, job_id)
        except NotFound:
            self._refused.check_retry(owner, job_id)
            raise
        return json_answer(queued_answer(record))

    async def purge_queue(self, request: Request, owner: Owner) -> Response:
        """Cancel all jobs that wait; those that run go on."""
        removed: JsonValue = await context_of(request).service.purge(owner)
        return json_answer({"removed": removed, "status": "completed"})

    async def _submit(self, request: Request, owner: str) -> JobRecord:
        body = await read_json(request)
        platform, context = read_platform(body), context_of(request)
        dialect = choose_dialect(body, default=context.settings.job.response_format)
        try:
            submission = make_submission(
                body, platform, dialect, owner=owner, base_url=base_url_of(request), new_id=_new_id
            )
        except WorkerError as error:
            return self._refused.add(wanted_id(body) or _new_id(), error, owner=owner, dialect=dialect.name)
        record = await context.service.submit(submission)
        self._refused.forget(owner, record.id)
        return record

    async def _find(self, request: Request, owner: str, job_id: str) -> JobRecord:
        try:
            return await context_of(request).service.get(owner, job_id)
        except NotFound:
            refused = self._refused.find(owner, job_id)
            if refused is None:
                raise
            return refused

    async def _cancel(self, request: Request, owner: str, job_id: str) -> JobRecord:
        service = context_of(request).service
        record = await self._find(request, owner, job_id)
        if record.is_terminal:
            return record
        record = await service.cancel(owner, job_id)
        if record.is_terminal:
            return record
        return await service.wait(owner, job_id, timeout_s=_CANCELED_WITHIN_S)


async def endpoint_health(request: Request, owner: Owner) -> Response:
    """Tell how many jobs there are, and how many ComfyUIs could take one."""
    del owner  # who has no key learns nothing
    return json_answer(await runpod_health(request))


_ROUTES: Final = (
    ("run", "/run", ("POST",)),
    ("run_and_wait", "/runsync", ("POST",)),
    ("status", "/status/{job_id}", ("GET", "POST")),
    ("stream", "/stream/{job_id}", ("GET", "POST")),
    ("cancel", "/cancel/{job_id}", ("POST",)),
    ("retry", "/retry/{job_id}", ("POST",)),
    ("purge_queue", "/purge-queue", ("POST",)),
)


def router() -> Router:
    """Return the routes."""
    made, handlers = Router(tag=_TAG, operations=_operations), RunPodRoutes()
    for name, path, methods in _ROUTES:
        handler = handlers.cancel_any if name == "cancel" else getattr(handlers, name)
        if len(methods) > 1:
            # Before those that the document shows one by one: this one tells who uses another method of both.
            made.add(path, handler, methods=methods)
        for method in methods:
            operation = f"{API_NAME}_{name}" + ("_by_post" if method == "POST" and len(methods) > 1 else "")
            made.add(path, handler, methods=(method,), operation_id=operation)
    for name, path, methods in _ROUTES:
        made.add(f"{_BELOW}{path}", getattr(handlers, name), methods=methods)
    made.add(f"{_BELOW}/health", endpoint_health)
    return made


def _new_id() -> str:
    return str(uuid.uuid4())


def _operations() -> Mapping[str, Mapping[str, Any]]:  # Any: what FastAPI takes
    from comfyworker.hosts.http.runpod.operations import OPERATIONS  # noqa: PLC0415  # for the document only

    return OPERATIONS


API: Final = HttpApi(name=API_NAME, prefixes=("/",), router=router, render_error=render_error)
"""RunPod's clients; who asks for what is nobody's is taken for one of them."""
