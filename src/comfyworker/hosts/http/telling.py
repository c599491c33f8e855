"""Webhooks of the server's jobs: told how a job ends before that is written down, whether it ever ran or not.

Of what comes before its end the worker tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from comfyworker.dialects import dialect_named
from comfyworker.errors import WorkerError
from comfyworker.finishing import in_thread
from comfyworker.hosts.http.context import sign_asset
from comfyworker.hosts.http.notes import BASE_URL, RUNPOD_WEBHOOK
from comfyworker.hosts.http.runpod.answers import ended_answer
from comfyworker.hosts.http.signing import UrlSigner, load_signer
from comfyworker.hosts.notices import Notices, final_body, final_event
from comfyworker.hosts.worker import Worker
from comfyworker.jobs import Artifact, JobRequest, JobResult, Progress, UrlType, WebhookOptions
from comfyworker.service import JobRecord, KeptArtifact, inline_files, running_record
from comfyworker.settings import Settings
from comfyworker.webhooks import Hook

if TYPE_CHECKING:  # it brings the pipeline, which is loaded while ComfyUI starts
    from comfyworker.running import StandAside


class _Files(NamedTuple):
    """How files of one job are told of."""

    signer: UrlSigner
    base_url: str
    lasts_s: float
    until: float | None = None

    def show(self, artifact: Artifact) -> Artifact:
        """Return a file with a URL under which the receiver can read it, if it is one of ours."""
        if artifact.path is None or not isinstance(artifact, KeptArtifact):
            return artifact.model_copy(update={"path": None})
        signed = sign_asset(
            self.signer, self.base_url, artifact.asset_id, artifact.name, lasts_s=self.lasts_s, until=self.until
        )
        return artifact.model_copy(update={"path": None, "url": signed.url, "url_type": UrlType.COMFYUI_URL})


class JobTelling:
    """Runs the service's jobs on a worker, and tells of them."""

    def __init__(self, worker: Worker, settings: Settings, *, worker_id: str, own_url: str = "") -> None:
        """Tell through the worker's webhooks.

        Args:
            worker: Runs the jobs.
            settings: The server's settings.
            worker_id: This process's name.
            own_url: Where the server is reached, for jobs that do not say; PUBLIC_URL wins.
        """
        self._worker = worker
        self._settings = settings
        self._worker_id = worker_id
        self._own_url = own_url
        self._hooks: dict[tuple[str, str], Hook] = {}
        self._signer: UrlSigner | None = None

    async def run(
        self,
        request: JobRequest,
        *,
        created_at: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_artifact: Callable[[Artifact], None] | None = None,
        on_preview: Callable[[str, str, bytes], None] | None = None,
        stand_aside: StandAside | None = None,
    ) -> JobResult:
        """Run one job and tell of it, but not of its end; it is the service's runner."""
        record, webhooks = running_record(), self._worker.webhooks
        try:
            hook = webhooks.hook_for(request)
        except WorkerError as error:
            return JobResult.refused(request.id, error)
        if hook is None:
            return await self._worker.run(
                request,
                created_at=created_at,
                on_progress=on_progress,
                on_artifact=on_artifact,
                on_preview=on_preview,
                stand_aside=stand_aside,
            )
        # One hook for all that is told of the job, the end included: so its messages go out as they came.
        self._hooks[record.owner, record.id] = hook
        return await self._worker.run_and_tell(
            request,
            Notices(webhooks, hook, show=(await self._files(record)).show),
            created_at=time.time() if created_at is None else created_at,
            on_progress=on_progress,
            on_artifact=on_artifact,
            on_preview=on_preview,
            stand_aside=stand_aside,
            tells_end=False,
        )

    async def tell_end(self, record: JobRecord, webhook: WebhookOptions | None) -> None:
        """Tell of a job's end, if anybody wants to hear of it; it is on the disk when this returns."""
        webhooks = self._worker.webhooks
        hook = self._hooks.pop((record.owner, record.id), None)
        try:
            hook = hook or webhooks.hook_for(JobRequest(id=record.id, webhook=webhook))
        except WorkerError:
            return  # The job has failed for it.
        if hook is None or record.result is None:
            return
        event = final_event(record.result)
        if hook.wants(event):
            # The job's time tells a second try of it apart, and another owner's job of that id.
            await webhooks.put(hook, event, await self._body(record), key=f"{record.owner}/{record.created_at}")

    async def _body(self, record: JobRecord) -> dict[str, JsonValue]:
        result = await self._shown(record)
        if record.meta.get(RUNPOD_WEBHOOK) is not True:
            return final_body(result)
        rendered = dialect_named(record.dialect).render(result)
        return ended_answer(record, rendered, worker_id=self._worker_id)

    async def _shown(self, record: JobRecord) -> JobResult:
        """Return what came of a job as it is told: with base64 where that is wanted and fits, else with URLs."""
        result: JobResult = record.result or JobResult(id=record.id, status=record.status)
        as_base64 = sum(artifact.size_bytes for artifact in result.artifacts if artifact.path is not None) * 4 // 3
        if record.wants_inline and as_base64 < self._settings.webhook.max_body_bytes // 2:
            result = await inline_files(result)
            artifacts = tuple(artifact.model_copy(update={"path": None}) for artifact in result.artifacts)
        else:
            artifacts = tuple(map((await self._files(record)).show, result.artifacts))
        return result.model_copy(update={"artifacts": artifacts})

    async def _files(self, record: JobRecord) -> _Files:
        if self._signer is None:
            self._signer = await in_thread(lambda: load_signer(self._settings.state.path))
        http, noted = self._settings.http, record.meta.get(BASE_URL)
        base_url = http.public_url or (noted if isinstance(noted, str) else self._own_url)
        return _Files(self._signer, base_url, http.artifact_url_expires_s, record.expires_at)
