"""What came of a job, in the form in which it is kept: bytes as files, everything else as a record."""

from __future__ import annotations

import base64
import functools
import uuid
from pathlib import Path

from comfyworker.errors import InternalError
from comfyworker.finishing import in_thread
from comfyworker.jobs import Artifact, JobResult, JobStatus
from comfyworker.service.keeping import as_kept, hash_file, unkept
from comfyworker.service.records import KeptArtifact, KeptResult


async def settle_result(result: JobResult, folder: Path, created_at: float) -> KeptResult:
    """Return a job's result with all files in `folder`.

    Args:
        result: What the runner returned.
        folder: Where the job's files lie.
        created_at: When the job came in.
    """
    status = result.status if result.status.is_terminal else JobStatus.FAILED
    try:
        artifacts = tuple([await _settled(artifact, folder) for artifact in result.artifacts])
    except OSError as error:
        failed = JobResult.refused(result.id, unkept("an output", error))
        return KeptResult.model_validate({**dict(failed), "created_at": created_at})
    values = {**dict(result), "status": status, "artifacts": artifacts, "created_at": created_at}
    if status is not JobStatus.SUCCEEDED and result.error is None:
        values["error"] = JobResult.refused(result.id, InternalError(f"the job ended as {result.status}")).error
    return KeptResult.model_construct(**values)


def unstorable(result: KeptResult) -> KeptResult:
    """Return what is kept of a result that cannot be written down."""
    error = InternalError("the job's result could not be written down", hint="The worker's log has the cause.")
    failed = JobResult.refused(result.id, error)
    return KeptResult.model_validate({**dict(failed), "created_at": result.created_at})


async def _settled(artifact: Artifact, folder: Path) -> KeptArtifact:
    kept = artifact if isinstance(artifact, KeptArtifact) else as_kept(artifact, asset_id=str(uuid.uuid4()))
    if kept.data is not None:
        return await in_thread(functools.partial(_write, kept, kept.data, folder))
    if kept.path is not None and not kept.path.is_relative_to(folder):
        # ComfyUI's own file, which is about to go: it was delivered elsewhere.
        return kept.model_copy(update={"path": None})
    return kept


def _write(artifact: KeptArtifact, data: str, folder: Path) -> KeptArtifact:
    """Put bytes that came inline into a file, as where object storage failed and the answer was to have them."""
    path = folder / artifact.asset_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(data))
    return artifact.model_copy(update={"data": None, "path": path, "hash": hash_file(path)})
