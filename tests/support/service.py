"""A job service with a runner that is a plain function, and what tests hand in."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from comfyworker.jobs import Artifact, JobRequest, JobResult, JobStatus, Progress
from comfyworker.service import JobService, Submission, kept_delivery
from comfyworker.settings import QueueSettings
from support.artifacts import file_artifact


@dataclass
class PlainRunner:
    """Runs jobs by making one file each; a test may hold all of them, and looks at what ran."""

    folder: Path
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Jobs go on when it is set; it is from the beginning."""
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    requests: list[JobRequest] = field(default_factory=list)
    """As the runner got them."""
    aside: dict[str, asyncio.Event] = field(default_factory=dict)
    """Jobs by id that first leave their place to others, until the event is set."""
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        """Hold nothing."""
        self.gate.set()

    async def __call__(
        self,
        request: JobRequest,
        *,
        created_at: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_artifact: Callable[[Artifact], None] | None = None,
        on_preview: Callable[[str, str, bytes], None] | None = None,
        stand_aside: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    ) -> JobResult:
        """Run one job: half of the progress, then the gate, then a file with the job's id in it."""
        if stand_aside is not None and request.id in self.aside:
            async with stand_aside():
                await self.aside[request.id].wait()
        self.begun.append(request.id)
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if on_progress is not None:
                on_progress(Progress(value=0.5))
            if on_preview is not None:
                on_preview("3", "image/jpeg", request.id.encode())
            await self.gate.wait()
            artifacts = await kept_delivery(request).deliver([self.make_file(request.id)])
            for artifact in artifacts:
                if on_artifact is not None:
                    on_artifact(artifact)
        except asyncio.CancelledError:
            self.cancelled.append(request.id)
            raise
        finally:
            self.at_once -= 1
        self.ended.append(request.id)
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED, artifacts=artifacts, created_at=created_at)

    def make_file(self, job_id: str) -> Artifact:
        """Return an artifact whose file tells of which job it is."""
        path = self.folder / uuid.uuid4().hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made for {job_id}")
        return file_artifact(path, name="picture_00001_.png")


def submission(job_id: str = "", **changes: object) -> Submission:
    """Return a submission of a tiny job; fields of the request and of the submission may be changed."""
    of_request = {name: value for name, value in changes.items() if name in JobRequest.model_fields}
    workflow = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}
    request = JobRequest.model_validate({"id": job_id or uuid.uuid4().hex, "workflow": workflow, **of_request})
    rest = {name: value for name, value in changes.items() if name not in of_request}
    return Submission.model_validate({"request": request, "api": "runpod", "dialect": "urls", **rest})


def service_in(folder: Path, runner: PlainRunner, *, places: int = 2, **settings: object) -> JobService:
    """Return a service in `folder`; `settings` are fields of QueueSettings."""
    return JobService(runner, QueueSettings.model_validate(settings), folder=folder, places=places)
