"""What runs the jobs of the service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from comfyworker.jobs import Artifact, JobRequest, JobResult, Progress, WebhookOptions
from comfyworker.service.records import JobRecord


class Runner(Protocol):
    """Runs one job to its end; `hosts.worker.Worker.run` is one."""

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
        """Run one job; called in a task of its own, for as many jobs at once as there are places.

        A failure is a result too. The files of a job that wants them from the host are delivered by `kept_delivery`.

        Args:
            request: The job.
            created_at: When it came in, in seconds of Unix time.
            on_progress: Must be called on the event loop; does not block.
            on_artifact: Must be called on the event loop; does not block.
            on_preview: May be called on the event loop with a node's id, a media type and a picture; does not block.
            stand_aside: Makes a context within which the job's place is for others, since it waits for what needs no
                ComfyUI; when it has been left, the job has a place again.

        Raises:
            asyncio.CancelledError: the caller was cancelled; by then nothing of the job runs any more.
        """


class EndTeller(Protocol):
    """Tells those outside how jobs end."""

    async def __call__(self, record: JobRecord, webhook: WebhookOptions | None) -> None:
        """Tell of one job's end; called for each job once, whether it ran or not, before the end is written down.

        So what a crash comes between is told again at the next start. What is raised is logged and changes nothing.

        Args:
            record: The job as it will stand.
            webhook: Whom its request names to be told.
        """
