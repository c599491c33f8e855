"""Jobs that failed before they were jobs."""

import pytest

from comfyworker.errors import InvalidRequest
from comfyworker.hosts.http.runpod.refused import RefusedJobs
from comfyworker.jobs import JobStatus


def test_a_refused_job_is_found_by_its_owner_only() -> None:
    """It has failed for what was wrong with the request."""
    jobs = RefusedJobs()
    added = jobs.add("a", InvalidRequest("no workflow"), owner="me", dialect="flux")
    assert (added.status, added.dialect, added.is_terminal) == (JobStatus.FAILED, "flux", True)
    assert added.result is not None
    assert added.result.error is not None
    assert added.result.error.message == "no workflow"
    assert jobs.find("me", "a") == added
    assert jobs.find("other", "a") is None


def test_it_is_not_retried() -> None:
    """It would fail again; what was never refused is no matter."""
    jobs = RefusedJobs()
    jobs.add("a", InvalidRequest("x"), owner="", dialect="flux")
    with pytest.raises(InvalidRequest, match="job a would fail again") as caught:
        jobs.check_retry("", "a")
    assert caught.value.problems[0].code == "not_retryable"
    jobs.check_retry("", "b")


def test_its_id_may_become_another_jobs() -> None:
    """Forgetting it twice is no error."""
    jobs = RefusedJobs()
    jobs.add("a", InvalidRequest("x"), owner="", dialect="flux")
    jobs.forget("", "a")
    jobs.forget("", "a")
    assert jobs.find("", "a") is None


def test_memory_is_bounded() -> None:
    """The oldest is forgotten first."""
    jobs = RefusedJobs(most_jobs=2)
    for job_id in ("a", "b", "a", "c"):
        jobs.add(job_id, InvalidRequest("x"), owner="", dialect="flux")
    assert [jobs.find("", job_id) is None for job_id in "abc"] == [False, True, False]
