"""Jobs from this machine: one at a time, asked for on the command line."""

from __future__ import annotations

import time
import uuid

import orjson
from pydantic import JsonValue

from comfyworker.dialects import Dialect, choose_dialect, dialect_named, wanted_id
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.hosts.worker import check_request, open_worker
from comfyworker.jobs import JobError, JobResult, JobStatus, Timings
from comfyworker.settings import Settings

_SHAPE = 'It must be one object: {"input": {"workflow": {…}}}.'


async def answer(
    content: bytes, settings: Settings, *, dialect: Dialect | None = None
) -> tuple[dict[str, JsonValue], bool]:
    """Run one request as a platform would; return the answer that the platform would get, and whether it succeeded.

    A request that is wrong in itself is answered without starting anything.

    Args:
        content: The request as JSON text.
        settings: The worker's settings.
        dialect: What to answer in; None takes what the request asks for in `response_format`, else RESPONSE_FORMAT.
    """
    created_at, begun_at = time.time(), time.perf_counter()
    spoken, job_id = dialect or dialect_named(settings.job.response_format), str(uuid.uuid4())
    try:
        body = parse_json(content)
        spoken = dialect or choose_dialect(body, default=spoken.name)
        job_id = wanted_id(body) or job_id
        request = spoken.parse(body, new_id=lambda: job_id)
        check_request(request, settings)
        async with open_worker(settings) as worker:
            result = await worker.run(request, created_at=created_at)
    except WorkerError as error:
        refused = {"timings": Timings(total_s=time.perf_counter() - begun_at)}
        dates = {"created_at": created_at, "completed_at": time.time()}
        result = JobResult.refused(job_id, error).model_copy(update={**refused, **dates})
    try:
        return spoken.render(result), result.error is None
    except WorkerError as error:
        failed = {"status": JobStatus.FAILED, "error": JobError.of(error)}
        return spoken.render(result.model_copy(update=failed)), False


def parse_json(content: bytes, *, name: str = "the request", hint: str = _SHAPE) -> object:
    """Return what JSON text says; `name` is what messages call it, `hint` what it should have been.

    Raises:
        InvalidRequest: it is not JSON; the message says where that shows.
    """
    if not content.strip():
        raise InvalidRequest(f"{name} is empty", hint=hint)
    try:
        parsed: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"{name} is not JSON: {error.msg} at {place}", hint=hint) from error
    return parsed
