"""What holds for every dialect, whatever it speaks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.dialects import DIALECT_NAMES, Dialect, dialect_named
from comfyworker.errors import InvalidRequest, Problem, WorkerError
from comfyworker.jobs import ColdStart, JobResult, JobStatus, StartPhase
from strategies import json_values
from support.artifacts import artifact, text_artifact

WORKFLOW = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}}


def all_errors(base: type[WorkerError] = WorkerError) -> Iterator[type[WorkerError]]:
    """Yield every error class."""
    for child in base.__subclasses__():
        yield child
        yield from all_errors(child)


ERRORS = sorted({error for error in all_errors() if error.__module__ == "comfyworker.errors"}, key=lambda e: e.__name__)
BAD_STATUS = {
    "urls": {"validation_error", "timeout", "api_error", "error"},
    "flux": {"error"},
    "pyworker": {"failed", "cancelled"},
}


@pytest.fixture(params=DIALECT_NAMES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Return each dialect in turn."""
    return dialect_named(request.param)


def assert_error(dialect: Dialect, answer: dict[str, JsonValue], error: WorkerError) -> None:
    """Check that an answer says what went wrong, in words and as a code, and looks like no success."""
    words = answer["message"] if dialect.name == "pyworker" else answer["error"]
    assert isinstance(words, str)
    assert error.message in words
    assert error.hint is None or error.hint in words
    assert answer["error_code"] == error.code
    assert answer.get("status") in BAD_STATUS.get(dialect.name, {None})
    assert not answer.get("images")
    assert not answer.get("output")
    json.dumps(answer)


@pytest.mark.parametrize("error_class", ERRORS, ids=lambda error: str(error.__name__))
def test_every_error_is_answered(dialect: Dialect, error_class: type[WorkerError]) -> None:
    """Code, message, hint and each problem reach the client."""
    problems = [Problem(message="first"), Problem(message="second", path="images[0]")]
    error = error_class("what and where", hint="do that", problems=problems)
    answer = dialect.render(JobResult.refused("j", error))
    assert_error(dialect, answer, error)
    assert answer["details"] == ["first", "images[0]: second"]


def test_a_canceled_job_is_no_success(dialect: Dialect) -> None:
    """Nor is one that ended without saying why."""
    for status in (JobStatus.CANCELED, JobStatus.FAILED, JobStatus.EXPIRED):
        answer = dialect.render(JobResult(id="j", status=status))
        assert answer["error_code"] == "internal_error"


def test_an_artifact_that_did_not_arrive_is_never_passed_over(dialect: Dialect) -> None:
    """Neither data nor a URL: there is no good answer."""
    result = JobResult(id="j", status=JobStatus.SUCCEEDED, artifacts=(artifact("a.png"),), prompt_id="p")
    with pytest.raises(WorkerError, match=r"'a\.png' was"):
        dialect.render(result)


def test_what_was_drawn_and_odd_is_told(dialect: Dialect) -> None:
    """Seeds that were drawn, texts that nodes reported, and warnings are in every good answer."""
    text = text_artifact("x", name="t.txt", node_id="7")
    answer = dialect.render(
        JobResult(id="j", status=JobStatus.SUCCEEDED, artifacts=(text,), used={"seed": 5}, warnings=("odd",))
    )
    extra = {key: answer[key] for key in ("used", "texts", "warnings")}
    assert extra == {"used": {"seed": 5}, "texts": [{"node_id": "7", "text": "x"}], "warnings": ["odd"]}


@pytest.mark.parametrize("is_good", [True, False], ids=["good", "bad"])
def test_how_the_worker_started_is_one_more_key(dialect: Dialect, *, is_good: bool) -> None:
    """The first answer after a start has it, good or bad; all else is as without it."""
    result = JobResult(id="j", status=JobStatus.SUCCEEDED)
    if not is_good:
        result = JobResult.refused("j", InvalidRequest("no"))
    start = ColdStart(total_s=2.5, phases=(StartPhase(name="comfyui", begun_s=0.5, ended_s=2.5),))
    answer = dialect.render(result.model_copy(update={"cold_start": start}))
    told = {"total_s": 2.5, "phases": [{"name": "comfyui", "begun_s": 0.5, "ended_s": 2.5}]}
    assert answer == {**dialect.render(result), "cold_start": told}


def test_every_dialect_takes_every_shape(dialect: Dialect) -> None:
    """What a request may hold does not depend on how its answer looks."""
    for source in ({"workflow": WORKFLOW}, {"workflow_json": WORKFLOW}, {"modifier": "Text2Image"}):
        body = {"input": {**source, "prompt": "a cat", "overrides": [{"node_id": 6, "field": "text", "value": 1}]}}
        expected = dialect_named("worker-comfyui").parse(body, new_id=lambda: "new")
        job = dialect.parse(body, new_id=lambda: "new")
        # Only how the client wants its files differs.
        assert job.model_copy(update={"output": expected.output}) == expected


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"input": None}, "input"),
        ({"input": "{"}, "input"),
        ({"input": {}}, "workflow"),
        ({"input": {"workflow": WORKFLOW, "images": 3}}, "images"),
        ({"input": {"workflow": WORKFLOW, "request_id": "../../evil"}}, "request_id"),
        ({"input": {"modifier": "Text2Image", "workflow_json": WORKFLOW}}, "modifier"),
        ({"input": {"modifications": {"prompt": "x"}}}, "modifications"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(dialect: Dialect, body: object, path: str) -> None:
    """Whatever words the dialect has for it."""
    with pytest.raises(InvalidRequest) as caught:
        dialect.parse(body, new_id=lambda: "new")
    assert caught.value.problems[0].path == path
    assert_error(dialect, dialect.render(JobResult.refused("j", caught.value)), caught.value)


_KEYS = ("workflow", "workflow_json", "modifier", "modifications", "images", "overrides", "prompt", "prompt_node_id")
_MORE = ("seed", "width", "steps", "size_node_id", "timeout", "request_id", "response_format", "s3", "output", "zzz")
_INPUTS = st.fixed_dictionaries({}, optional={key: json_values() for key in (*_KEYS, *_MORE)})
_LIKELY = st.fixed_dictionaries(
    {"workflow": st.just(WORKFLOW) | json_values()},
    optional={
        "overrides": st.lists(
            st.fixed_dictionaries({"node_id": json_values(), "field": st.text(), "value": st.none()})
        ),
        "images": st.lists(st.fixed_dictionaries({"name": json_values(), "image": st.text()}), max_size=2),
        "seed": st.integers() | st.floats() | st.just("__RANDOM_INT__"),
        "modifications": st.dictionaries(st.text(max_size=4), json_values(), max_size=2),
    },
)
_INPUT: st.SearchStrategy[Any] = _INPUTS | _LIKELY | json_values()
_BODIES = (
    json_values()
    | st.fixed_dictionaries({"input": _INPUT | _INPUT.map(json.dumps)}, optional={"id": json_values()})
    | st.fixed_dictionaries({"payload": st.fixed_dictionaries({"input": _INPUT}), "session_id": json_values()})
)


@given(body=_BODIES, name=st.sampled_from(DIALECT_NAMES))
def test_any_request_gives_a_job_or_an_answer(body: object, name: str) -> None:
    """No request, however odd, raises anything foreign, and each refusal can be answered."""
    dialect = dialect_named(name)
    try:
        job = dialect.parse(body, new_id=lambda: "new")
    except WorkerError as error:
        assert_error(dialect, dialect.render(JobResult.refused("j", error)), error)
    else:
        assert (job.workflow is None) + (job.gui_workflow is None) + (job.modifier is None) <= 2
