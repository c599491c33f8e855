"""Jobs from this machine: one at a time, asked for on the command line."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
from pydantic import JsonValue

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.delivery.comfyui_url import ComfyUIUrlDelivery
from comfyworker.dialects import Dialect, choose_dialect, dialect_named, wanted_id
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.jobs import JobError, JobRequest, JobResult, JobStatus, Timings
from comfyworker.modifiers import load_modifiers
from comfyworker.pipeline import Pipeline
from comfyworker.settings import Settings

_SHAPE = 'It must be one object: {"input": {"workflow": {…}}}.'


@contextlib.asynccontextmanager
async def open_pipeline(settings: Settings, *, cwd: Path | None = None) -> AsyncIterator[Pipeline]:
    """Start the ComfyUIs that the settings lead to, and run jobs on them until the context ends.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        InvalidSettings: a modifier file or the default workflow is wrong.
    """
    modifiers = load_modifiers(settings.modifiers)
    pool = ComfyUIPool(settings.comfyui, settings.shutdown, cwd=cwd or Path.cwd())
    async with pool, Pipeline(pool, settings, modifiers) as pipeline:
        yield pipeline


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
        result = await _run(request, spoken, settings)
    except WorkerError as error:
        timings = Timings(total_s=time.perf_counter() - begun_at)
        result = JobResult.refused(job_id, error).model_copy(update={"timings": timings})
    result = result.model_copy(update={"created_at": created_at, "completed_at": time.time()})
    try:
        return spoken.render(result), result.error is None
    except WorkerError as error:
        failed = {"status": JobStatus.FAILED, "error": JobError.of(error)}
        return spoken.render(result.model_copy(update=failed)), False


async def _run(request: JobRequest, dialect: Dialect, settings: Settings) -> JobResult:
    delivery = ComfyUIUrlDelivery() if dialect.wants_urls else None
    async with open_pipeline(settings) as pipeline:
        return await pipeline.run(request, delivery=delivery)


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
