"""Vast's routes, as its ComfyUI PyWorker has them.

Wire source: the README of ai-dock/comfyui-api-wrapper, "API endpoints".
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from comfyworker.dialects import wanted_id
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Owner, Router
from comfyworker.hosts.http.sse import last_event_id, sse_answer
from comfyworker.hosts.http.vast.answers import (
    API_NAME,
    not_finished,
    pending,
    refusal,
    render_error,
    result_answer,
)
from comfyworker.hosts.http.vast.codes import CANCELED
from comfyworker.hosts.http.vast.door import Door, Visit, key_door
from comfyworker.hosts.http.vast.streaming import life_of
from comfyworker.hosts.http.vast.submission import make_submission
from comfyworker.jobs import JobStatus
from comfyworker.service import JobRecord, Submission

_ACCEPTED = 202
_LONGEST_WAIT_S = 7 * 86400.0  # the job's own deadline ends it before
_TAG = "Vast"


class Submissions:
    """The routes that take jobs."""

    def __init__(self, door: Door) -> None:
        """Take the jobs that `door` lets in."""
        self._door = door

    async def generate(self, request: Request) -> Response:
        """Take a job and answer at once; `/result/{id}` tells what comes of it."""
        async with self._door(request) as visit:
            taken = await _take(request, visit)
            if isinstance(taken, Response):
                return taken
            visit.follow(taken, is_watched=False)
            if not taken.is_terminal:
                return json_answer(pending(taken), _ACCEPTED)
            return await result_answer(request, taken)

    async def generate_sync(self, request: Request) -> Response:
        """Take a job and answer when it has ended; who hangs up before cancels it."""
        async with self._door(request) as visit:
            taken = await _take(request, visit)
            if isinstance(taken, Response):
                return taken
            visit.note_job(taken)
            record, is_gone = (taken, False) if taken.is_terminal else await _wait_while_there(request, taken)
            # Not ended: the server is going down, and will run the job at its next start.
            answer = await result_answer(request, record) if record.is_terminal else not_finished(record)
            visit.answered(CANCELED if is_gone else answer.status_code, record)
            return answer

    async def generate_stream(self, request: Request) -> Response:
        """Take a job and tell what happens to it as server-sent events; the last one is `final_result`.

        Who lost the connection sends the same request with its `request_id` again, and `Last-Event-ID`.
        """
        async with self._door(request) as visit:
            taken = await _take(request, visit)
            if isinstance(taken, Response):
                return taken
            visit.follow(taken, is_watched=True)
            return sse_answer(life_of(request, taken, after=last_event_id(request)))


async def result(request: Request, owner: Owner, job_id: str) -> Response:
    """Tell how a job stands, and what came of it; the HTTP code tells the same."""
    return await result_answer(request, await context_of(request).service.get(owner, job_id))


async def queue_info(request: Request, owner: Owner) -> Response:
    """Tell how much there is to do."""
    del owner  # who has no key learns nothing
    counts = await context_of(request).service.counts()
    return json_answer(
        {
            "preprocess_queue_size": counts.queued,
            "generation_queue_size": counts.running,
            "postprocess_queue_size": 0,
            "max_queue_size": counts.max_queued,
        }
    )


def router(door: Door) -> Router:
    """Return the routes; `/cancel/{id}` is among RunPod's, who have it too."""
    submissions = Submissions(door)
    made = Router(tag=_TAG, operations=_operations)
    made.add("/generate", submissions.generate, methods=("POST",), operation_id="vast_generate")
    made.add("/generate/sync", submissions.generate_sync, methods=("POST",), operation_id="vast_generate_sync")
    made.add("/generate/stream", submissions.generate_stream, methods=("POST",), operation_id="vast_generate_stream")
    made.add("/result/{job_id}", result, operation_id="vast_result")
    made.add("/queue-info", queue_info, operation_id="vast_queue_info")
    return made


def _operations() -> Mapping[str, Mapping[str, Any]]:  # Any: what FastAPI takes
    from comfyworker.hosts.http.vast.operations import OPERATIONS  # noqa: PLC0415  # for the document only

    return OPERATIONS


async def _take(request: Request, visit: Visit) -> JobRecord | Response:
    """Return the job that a visitor asks for, or why it is refused."""
    job_id = wanted_id(visit.body) or ""
    try:
        submission = make_submission(request, visit.body, owner=visit.owner)
        job_id = submission.request.id
        record = await context_of(request).service.submit(submission)
    except WorkerError as error:
        refused = refusal(job_id, error)
        visit.answered(refused.status_code)
        return refused
    return await _again_if_worth_it(request, submission, record)


async def _again_if_worth_it(request: Request, submission: Submission, record: JobRecord) -> JobRecord:
    """Run a job once more that a client sends again because it came to nothing and may do better now."""
    error = record.result.error if record.result else None
    came_to_nothing = record.status is JobStatus.CANCELED or (error is not None and error.retryable)
    if not record.is_repeat or not came_to_nothing:
        return record
    try:
        return await context_of(request).service.retry(record.owner, record.id, submission=submission)
    except InvalidRequest:  # it has just expired, or another client was faster
        return record


async def _wait_while_there(request: Request, record: JobRecord) -> tuple[JobRecord, bool]:
    """Return the job when it is over, and whether its client has gone before.

    Then the job is canceled, unless another client had sent it.
    """
    service = context_of(request).service
    async with asyncio.TaskGroup() as group:
        over = group.create_task(
            service.wait(record.owner, record.id, timeout_s=_LONGEST_WAIT_S), name=f"end of {record.id}"
        )
        gone = group.create_task(_wait_gone(request), name=f"whether the client of {record.id} is there")
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        is_gone = not over.done()
        gone.cancel()
        if is_gone and not record.is_repeat:
            await service.cancel(record.owner, record.id)
        elif is_gone:
            over.cancel()
            return record, True
    return over.result(), is_gone


async def _wait_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def api_behind(door: Door) -> HttpApi:
    """Return the API that takes the jobs which `door` lets in."""
    return HttpApi(
        name=API_NAME,
        prefixes=("/generate", "/result", "/queue-info"),
        router=functools.partial(router, door),
        render_error=render_error,
    )


API: Final = api_behind(key_door)
"""Clients of Vast's ComfyUI PyWorker."""
