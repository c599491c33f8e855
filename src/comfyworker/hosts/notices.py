"""What webhooks are told of a job: the body of each event, in the words of Vast's PyWorker.

Wire source: ai-dock/comfyui-api-wrapper's README, "Webhook": `{id, status, message, output, timings}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from pydantic import JsonValue

from comfyworker.dialects import dialect_named
from comfyworker.jobs import Artifact, JobResult, JobStatus, Progress, WebhookEvent
from comfyworker.webhooks import Hook, Webhooks

_PYWORKER = dialect_named("pyworker")
_FINAL = {JobStatus.SUCCEEDED: WebhookEvent.COMPLETED, JobStatus.CANCELED: WebhookEvent.CANCELLED}


class _Notice(NamedTuple):
    event: WebhookEvent
    body: dict[str, JsonValue]
    key: str = ""


def final_event(result: JobResult) -> WebhookEvent:
    """Return which event the end of a job is."""
    return _FINAL.get(result.status, WebhookEvent.FAILED)


def final_body(result: JobResult) -> dict[str, JsonValue]:
    """Return what is told of the end of a job.

    Raises:
        InternalError: an artifact was not delivered, and the job says nothing of it.
    """
    body = _PYWORKER.render(result)
    # ComfyUI's history is large, and who needs it asks for the result.
    body.pop("comfyui_response", None)
    return body


class Notices:
    """Tells a webhook of one job, in the order in which things happened; telling never makes the job wait."""

    def __init__(
        self, webhooks: Webhooks, hook: Hook, *, show: Callable[[Artifact], Artifact] = lambda artifact: artifact
    ) -> None:
        """Tell `hook`; `show` makes a file as it is delivered into one that can be told of."""
        self._webhooks = webhooks
        self._hook = hook
        self._show = show
        self._waiting: asyncio.Queue[_Notice | None] = asyncio.Queue()

    def started(self) -> None:
        """Tell that the job has begun."""
        if self._hook.wants(WebhookEvent.STARTED):
            self._waiting.put_nowait(_Notice(WebhookEvent.STARTED, self._running_body("The job has started.")))

    def progress(self, progress: Progress) -> None:
        """Tell how far the job is."""
        if self._hook.wants(WebhookEvent.PROGRESS):
            body = self._running_body(progress.message or "")
            self._waiting.put_nowait(
                _Notice(WebhookEvent.PROGRESS, {**body, "progress": progress.model_dump(mode="json")})
            )

    def artifact(self, artifact: Artifact) -> None:
        """Tell of a file that has been delivered."""
        if self._hook.wants(WebhookEvent.ARTIFACT):
            body = self._running_body(f"{artifact.name} is delivered.")
            shown = JobResult(id=self._hook.job_id, status=JobStatus.RUNNING, artifacts=(self._show(artifact),))
            key = f"{artifact.node_id}/{artifact.subfolder}/{artifact.name}"
            self._waiting.put_nowait(
                _Notice(WebhookEvent.ARTIFACT, {**body, "output": _PYWORKER.render(shown)["output"]}, key)
            )

    def ended(self, result: JobResult) -> None:
        """Tell what came of the job."""
        event = final_event(result)
        if self._hook.wants(event):
            self._waiting.put_nowait(_Notice(event, final_body(result)))

    def close(self) -> None:
        """Say that nothing more will be told: `tell_all` returns when all of it is told."""
        self._waiting.put_nowait(None)

    async def tell_all(self) -> None:
        """Hand on what is told until `close`; what must not be lost is on the disk when it returns."""
        while (notice := await self._waiting.get()) is not None:
            await self._webhooks.put(self._hook, notice.event, notice.body, key=notice.key)

    def _running_body(self, message: str) -> dict[str, JsonValue]:
        return {"id": self._hook.job_id, "status": "generating", "message": message, "output": [], "timings": {}}
