"""The worker as it is measured: from a platform's request to the answer that the platform gets."""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog
from pydantic import JsonValue

from comfyworker.dialects.worker_comfyui import WorkerComfyUIDialect
from comfyworker.hosts.worker import open_pipeline
from comfyworker.jobs import Graph, Timings
from comfyworker.logs import configure_logs
from comfyworker.pipeline import Pipeline
from comfyworker.settings import LogSettings, load_settings


@dataclass(frozen=True)
class Answer:
    """What a platform gets, and what the worker knows of how it came about."""

    prompt_id: str
    document: dict[str, JsonValue]
    timings: Timings

    @property
    def pictures(self) -> list[str]:
        """The pictures in it, as base64, or their URLs where they went to object storage."""
        images = cast("list[dict[str, str]]", self.document["images"])  # the dialect's answer has this shape
        return [image["data"] for image in images]


class Worker:
    """A worker that is up, on a ComfyUI that runs already."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Run jobs on `pipeline`."""
        self.pipeline = pipeline
        self._dialect = WorkerComfyUIDialect()

    async def run(self, graph: Graph) -> Answer:
        """Answer one request, files as base64 inside, or in the object storage if there is one.

        Raises:
            RuntimeError: The job failed.
        """
        request = self._dialect.parse({"input": {"workflow": graph}}, new_id=lambda: uuid.uuid4().hex)
        result = await self.pipeline.run(request)
        document = self._dialect.render(result)
        if result.error is not None or result.prompt_id is None:
            raise RuntimeError(document)
        return Answer(result.prompt_id, document, result.timings)


@contextlib.asynccontextmanager
async def worker_on(url: str, base_dir: Path, more: Mapping[str, str] | None = None) -> AsyncIterator[Worker]:
    """Open a worker on the ComfyUI at `url`, with its default settings but those of `more`, by their variables."""
    settings = load_settings({"COMFY_API_URL": url, "COMFYUI_BASE_DIR": str(base_dir), **(more or {})})
    with unread_log(settings.log):
        async with open_pipeline(settings) as pipeline:
            await pipeline.pool.any_ready()
            yield Worker(pipeline)


@contextlib.contextmanager
def unread_log(settings: LogSettings) -> Iterator[None]:
    """Let the log be written, but nobody read it; afterwards it goes where it went before."""
    before = structlog.get_config()
    with Path(os.devnull).open("w", encoding="utf-8") as log:
        configure_logs(settings, stream=log)
        try:
            yield
        finally:
            structlog.configure(**before)
