"""A job as RunPod hands it over."""

import pytest

from comfyworker.dialects import dialect_named
from comfyworker.errors import InvalidRequest
from comfyworker.hosts.runpod.limits import answer_limit_bytes
from comfyworker.hosts.runpod.submission import job_id_of, read_job

DIALECT = dialect_named("worker-comfyui")
WORKFLOW = {"1": {"class_type": "EmptyImage", "inputs": {}}}


def job(beside: dict[str, object], **inner: object) -> dict[str, object]:
    """Return a job."""
    return {"id": "c0ffee-u1", "input": {"workflow": WORKFLOW, **inner}, **beside}


@pytest.mark.parametrize(
    ("beside", "inner", "timeout_s"),
    [
        ({}, {}, None),
        ({"policy": {}}, {"timeout": 20}, 20.0),
        ({"policy": {"executionTimeout": 5000, "ttl": 1}}, {}, 5.0),
        ({"policy": {"executionTimeout": 5000}}, {"timeout": 2}, 2.0),
        ({"policy": {"executionTimeout": 5000}}, {"timeout": 20}, 5.0),
        ({"policy": {"executionTimeout": 0}}, {"timeout": 20}, 20.0),
        ({"policy": {"executionTimeout": 0}}, {}, None),
    ],
)
def test_the_shorter_time_limit_holds(
    beside: dict[str, object], inner: dict[str, object], timeout_s: float | None
) -> None:
    """The request's own, or the platform's in milliseconds, whose 0 is none."""
    assert read_job(job(beside, **inner), DIALECT).timeout_s == timeout_s


def test_the_platforms_limit_holds_whatever_a_job_waits_for() -> None:
    """The platform stops the job then; the request's own limit is for its own time."""
    policy: dict[str, object] = {"policy": {"executionTimeout": 5000}}
    assert read_job(job(policy, timeout=3), DIALECT).given_up_after_s == 5
    assert read_job(job({}, timeout=3), DIALECT).given_up_after_s is None


@pytest.mark.parametrize(
    "policy", [[], {"executionTimeout": True}, {"executionTimeout": "5"}, {"executionTimeout": -1}]
)
def test_a_wrong_policy_is_refused(policy: object) -> None:
    """The error names the place."""
    with pytest.raises(InvalidRequest, match=r"^policy"):
        read_job(job({"policy": policy}), DIALECT)


def test_the_job_has_the_platforms_id() -> None:
    """An id of the request's own is left aside, and that is told."""
    request = read_job(job({}, request_id="mine"), DIALECT)
    assert (request.id, request.warnings) == (
        "c0ffee-u1",
        ("input.request_id was ignored: the job has RunPod's id",),
    )
    assert read_job(job({}, request_id="c0ffee-u1"), DIALECT).warnings == ()


@pytest.mark.parametrize("given", [None, [], {}, {"id": 7}, {"id": ""}])
def test_a_job_without_an_id(given: object) -> None:
    """It has none."""
    assert job_id_of(given) == ""


def test_answers_to_runsync_may_be_larger() -> None:
    """RunPod takes 10 MB and 20 MB, what it writes round an answer included."""
    limits = [
        answer_limit_bytes(read_job({**job({}), "id": job_id}, DIALECT)) for job_id in ("c0ffee-u1", "sync-c0ffee-u1")
    ]
    assert limits == [9_936_000, 19_936_000]
