"""Which HTTP code tells Vast's clients of which failure."""

from collections.abc import Iterator

import pytest

from comfyworker import errors
from comfyworker.errors import JobTimeout, NotFound, QueueFull, RequestTooLarge, Unauthorized, WorkerError
from comfyworker.hosts.http.vast.codes import Code, code_of_error, code_of_failure, code_of_record
from comfyworker.jobs import JobError, JobStatus
from comfyworker.service import JobRecord


def leaves(base: type[WorkerError] = WorkerError) -> Iterator[type[WorkerError]]:
    """Yield every class of error."""
    yield base
    for child in base.__subclasses__():
        yield from leaves(child)


def record(status: JobStatus) -> JobRecord:
    """Return a job that stands so."""
    return JobRecord(owner="", id="a", api="vast", dialect="pyworker", status=status, created_at=0.0)


def code_of(leaf: type[WorkerError]) -> str:
    """Return a class's code."""
    return leaf.code


LEAVES: list[type[WorkerError]] = sorted(leaves(), key=code_of)


@pytest.mark.parametrize("leaf", LEAVES, ids=code_of)
def test_only_what_may_pass_or_is_our_fault_is_sent_again(leaf: type[WorkerError]) -> None:
    """Vast's clients send 5xx, 408 and 429 again for ever: none of these for what would fail again."""
    code = code_of_failure(leaf.code, retryable=False)
    ours = {"internal_error", "invalid_settings", "install_failed", "comfyui_not_found"}
    assert code.status == {"job_canceled": 499}.get(leaf.code, 500 if leaf.code in ours else 422)
    again = code_of_failure(leaf.code, retryable=True)
    never = {"job_canceled": 499, "delivery_failed": 422}
    assert again.status == never[leaf.code] if leaf.code in never else again.status >= 500
    assert (again.status == 503) == (again.retry_after_s is not None)


@pytest.mark.parametrize(
    ("code", "status"),
    [("comfyui_unreachable", 502), ("comfyui_crashed", 502), ("comfyui_unavailable", 503)],
)
def test_what_is_behind_us_is_a_bad_gateway(code: str, status: int) -> None:
    """ComfyUI failed, not the worker."""
    assert code_of_failure(code, retryable=True).status == status


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(Unauthorized("x"), Code(401), id="key"),
        pytest.param(NotFound("x"), Code(404), id="not there"),
        pytest.param(RequestTooLarge("x"), Code(413), id="too large"),
        pytest.param(QueueFull("x", details={"retry_after_s": 2.5}), Code(503, 2.5), id="queue full"),
        pytest.param(errors.InvalidRequest("x"), Code(422), id="shape"),
        pytest.param(errors.IdempotencyKeyReused("x"), Code(422), id="another request of that id"),
    ],
)
def test_a_request_that_is_refused(error: WorkerError, code: Code) -> None:
    """HTTP's own codes stay as they are; a full queue says when to come again."""
    assert code_of_error(error) == code


def test_how_a_job_ended() -> None:
    """A job that waited too long may be sent again; one that took too long may not."""
    late = JobError.of(JobTimeout("x", retryable=True))
    slow = JobError.of(JobTimeout("x"))
    assert code_of_record(record(JobStatus.SUCCEEDED), None) == Code(200)
    assert code_of_record(record(JobStatus.CANCELED), None) == Code(499)
    assert code_of_record(record(JobStatus.EXPIRED), late).status == 503
    assert code_of_record(record(JobStatus.FAILED), slow).status == 422
