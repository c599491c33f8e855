"""Jobs from this machine: one at a time, asked for on the command line."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
from pydantic import JsonValue

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.dialects.protocol import Dialect
from comfyworker.errors import InvalidRequest, WorkerError
from comfyworker.jobs import JobResult
from comfyworker.pipeline import Pipeline
from comfyworker.settings import Settings

_SHAPE = 'It must be one object: {"input": {"workflow": {…}}}.'


@contextlib.asynccontextmanager
async def open_pipeline(settings: Settings, *, cwd: Path | None = None) -> AsyncIterator[Pipeline]:
    """Start the ComfyUIs that the settings lead to, and run jobs on them until the context ends.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
    """
    pool = ComfyUIPool(settings.comfyui, settings.shutdown, cwd=cwd or Path.cwd())
    async with pool, Pipeline(pool, settings) as pipeline:
        yield pipeline


async def answer(content: bytes, dialect: Dialect, settings: Settings) -> tuple[dict[str, JsonValue], bool]:
    """Run one request as a platform would; return the answer that the platform would get, and whether it succeeded.

    A request that is wrong in itself is answered without starting anything.

    Args:
        content: The request as JSON text.
        dialect: What it is spoken in.
        settings: The worker's settings.
    """
    job_id = uuid.uuid4().hex
    try:
        request = dialect.parse(parse_json(content), new_id=lambda: job_id)
        async with open_pipeline(settings) as pipeline:
            result = await pipeline.run(request)
    except WorkerError as error:
        result = JobResult.refused(job_id, error)
    return dialect.render(result), result.error is None


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
