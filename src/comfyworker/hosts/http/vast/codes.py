"""The HTTP status that tells Vast's clients of a failure.

They send a request again for ever on any 5xx, on 408 and on 429, so a failure that would only happen again is a 422.
So is a delivery that failed, whatever the cause: by then the job has run and the upload has had its own retries, and to
run it all again for each further try of an upload costs the GPU more than the client's own decision.
Wire source: Vast's SDK and the README of ai-dock/comfyui-api-wrapper, "Error handling".
"""

from __future__ import annotations

from typing import NamedTuple

from comfyworker.errors import (
    ComfyUICrashed,
    ComfyUINotFound,
    ComfyUIUnreachable,
    DeliveryFailed,
    InstallFailed,
    InternalError,
    InvalidSettings,
    JobCanceled,
    WorkerError,
)
from comfyworker.jobs import JobError, JobStatus
from comfyworker.service import JobRecord

OK = 200
CANCELED = 499
WOULD_FAIL_AGAIN = 422
OURS = 500
UNREACHABLE = 502
NOT_NOW = 503
RETRY_AFTER_S = 5.0

_AT_FAULT_ARE_WE = frozenset({leaf.code for leaf in (InternalError, InvalidSettings, InstallFailed, ComfyUINotFound)})
_BEHIND_US = frozenset({leaf.code for leaf in (ComfyUIUnreachable, ComfyUICrashed)})
_AS_THEY_ARE = frozenset({401, 403, 404, 405, 410, 413, 429})


class Code(NamedTuple):
    """A status, and after how many seconds to ask again."""

    status: int
    retry_after_s: float | None = None


def code_of_record(record: JobRecord, error: JobError | None) -> Code:
    """Return the code for a job as it stands; `error` is why its answer is no success."""
    if record.status is JobStatus.CANCELED:
        return Code(CANCELED)
    if record.status is JobStatus.EXPIRED:
        return Code(NOT_NOW, RETRY_AFTER_S)  # It waited too long; the next one may not.
    return Code(OK) if error is None else code_of_failure(error.code, retryable=error.retryable)


def code_of_error(error: WorkerError) -> Code:
    """Return the code for a request that is refused."""
    is_as_it_is = error.http_status in _AS_THEY_ARE
    code = Code(error.http_status) if is_as_it_is else code_of_failure(error.code, retryable=error.retryable)
    after_s = error.details.get("retry_after_s")
    return code._replace(retry_after_s=float(after_s)) if isinstance(after_s, int | float) else code


def code_of_failure(code: str, *, retryable: bool) -> Code:
    """Return the code for a failure.

    Args:
        code: What went wrong.
        retryable: Whether the same request may succeed later.
    """
    if code == JobCanceled.code:
        return Code(CANCELED)
    if code in _AT_FAULT_ARE_WE:
        return Code(OURS)
    if not retryable or code == DeliveryFailed.code:
        return Code(WOULD_FAIL_AGAIN)
    return Code(UNREACHABLE) if code in _BEHIND_US else Code(NOT_NOW, RETRY_AFTER_S)
