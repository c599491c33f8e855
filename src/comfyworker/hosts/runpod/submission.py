"""A job as RunPod hands it over: `{id, input, webhook?, policy?, s3Config?, …}`.

The top-level `webhook` is the platform's own affair: it calls it with its own status document.
Wire source: RunPod's documentation, "Send API requests": `policy.executionTimeout` is in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from comfyworker.dialects import Dialect, wanted_id
from comfyworker.errors import InvalidRequest, Problem
from comfyworker.jobs import JobRequest

_MOST_MS = 10**12


def job_id_of(job: object) -> str:
    """Return the platform's id of a job; empty if it has none."""
    job_id = job.get("id") if isinstance(job, Mapping) else None
    return job_id if isinstance(job_id, str) else ""


def read_job(job: Mapping[str, object], dialect: Dialect) -> JobRequest:
    """Return the job that RunPod hands over, under the platform's id and with the platform's time limit.

    Raises:
        WorkerError: with everything that is wrong with the request.
    """
    job_id = job_id_of(job)
    limit_s = _execution_timeout_s(job)
    request = dialect.parse(job, new_id=lambda: job_id)
    warnings = request.warnings
    own_id = wanted_id({"input": job.get("input")})
    if own_id is not None and own_id != job_id:
        warnings = (*warnings, "input.request_id was ignored: the job has RunPod's id")
    limits = [limit for limit in (request.timeout_s, limit_s) if limit is not None]
    timeout_s = min(limits) if limits else None
    # The platform counts the time from when it handed the job over, also what was waited for models.
    limited = {"timeout_s": timeout_s, "given_up_after_s": limit_s}
    return request.model_copy(update={"id": job_id, "warnings": warnings, **limited})


def _execution_timeout_s(job: Mapping[str, object]) -> float | None:
    policy = job.get("policy")
    if policy is None:
        return None
    if not isinstance(policy, Mapping):
        raise _wrong("policy", "must be an object")
    value = policy.get("executionTimeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_MS:
        raise _wrong("policy.executionTimeout", "must be a number of milliseconds")
    return value / 1000 or None  # 0 is the platform's "no limit"


def _wrong(path: str, what: str) -> InvalidRequest:
    message = f"{path} {what}"
    return InvalidRequest(message, problems=[Problem(message=message, code="wrong_type", path=path)])
