"""What the SDK is handed for a job."""

import json

import pytest

from comfyworker.dialects import DIALECT_NAMES, dialect_named
from comfyworker.errors import InvalidWorkflow, Problem
from comfyworker.hosts.runpod.outcome import Answer, json_bytes, make_answer
from comfyworker.jobs import Artifact, ArtifactKind, JobResult, JobStatus

LIMIT = 100_000


def text(size: int) -> JobResult:
    """Return the result of a job that reported a text."""
    artifact = Artifact(
        name="text",
        kind=ArtifactKind.TEXT,
        node_id="1",
        output_key="text",
        content_type="text/plain",
        size_bytes=size,
        text="x" * size,
    )
    return JobResult(id="a", status=JobStatus.SUCCEEDED, artifacts=(artifact,))


def refused(count: int) -> JobResult:
    """Return the result of a job in which `count` things are wrong."""
    problems = [
        Problem(message=f"node {number} is wrong: {'y' * 500}", code="wrong", choices=("z" * 500,))
        for number in range(count)
    ]
    message = "; ".join(problem.message for problem in problems)
    return JobResult.refused("a", InvalidWorkflow(message, problems=problems))


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_a_success_has_no_error(name: str) -> None:
    """The platform would mark it as FAILED."""
    answer = make_answer(dialect_named(name), text(10), limit_bytes=LIMIT)
    assert (answer.is_failed, bool(answer)) == (False, True)


@pytest.mark.parametrize("name", DIALECT_NAMES)
@pytest.mark.parametrize("count", [1, 30, 1000])
def test_a_failure_has_its_error_as_text(name: str, count: int) -> None:
    """However many things are wrong, the answer is one that the platform takes, and names the first of them."""
    answer = make_answer(dialect_named(name), refused(count), limit_bytes=LIMIT)
    assert isinstance(answer["error"], str)
    assert "node 0 is wrong" in answer["error"]
    assert json_bytes(answer) <= LIMIT


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_an_answer_that_is_too_large_becomes_an_error(name: str) -> None:
    """What no delivery has kept out of it, as the history that a dialect repeats, is measured at last."""
    answer = make_answer(dialect_named(name), text(200_000), limit_bytes=LIMIT)
    assert answer["error_code"] == "answer_too_large" if "error_code" in answer else answer.is_failed
    assert "0.1 MB" in str(answer["error"])
    assert json_bytes(answer) < 10_000


def test_an_answer_does_not_show_what_is_in_it() -> None:
    """The SDK formats every answer for its log, nested too; as JSON it is whole."""
    answer = Answer({"images": [{"data": "secret"}]})
    assert [f"{answer}", str({"output": answer})] == ["<answer with images>", "{'output': <answer with images>}"]
    assert json.loads(json.dumps(answer)) == {"images": [{"data": "secret"}]}
