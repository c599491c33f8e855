"""The dialect worker-comfyui: upstream's shapes and texts, and ours where it has none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.dialects.protocol import Dialect
from comfyworker.dialects.worker_comfyui import WorkerComfyUIDialect
from comfyworker.errors import (
    ComfyUICrashed,
    InternalError,
    InvalidRequest,
    InvalidWorkflow,
    JobCanceled,
    NodeExecutionError,
    OutOfMemory,
    Problem,
    WorkerError,
)
from comfyworker.jobs import Artifact, ArtifactKind, InputFile, JobRequest, JobResult, JobStatus
from support.artifacts import artifact

WORKFLOW = {"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}, "2": {"class_type": "X", "inputs": {}}}
DIALECT: Dialect = WorkerComfyUIDialect()


def parse(body: object) -> JobRequest:
    """Parse with a fixed new id."""
    return DIALECT.parse(body, new_id=lambda: "new")


def refused(body: object) -> tuple[str, list[str | None]]:
    """Return the message of the error for `body`, and the path of each problem."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    return caught.value.message, [problem.path for problem in caught.value.problems]


def answer_to(body: object) -> dict[str, JsonValue]:
    """Return the answer to a request that is refused."""
    with pytest.raises(WorkerError) as caught:
        parse(body)
    return DIALECT.render(JobResult.refused("j", caught.value))


def done(*artifacts: Artifact, **more: Any) -> dict[str, JsonValue]:
    """Return the answer for a job that has succeeded."""
    return DIALECT.render(JobResult(id="j", status=JobStatus.SUCCEEDED, artifacts=artifacts, **more))


def failed(error: WorkerError, status: JobStatus = JobStatus.FAILED) -> dict[str, JsonValue]:
    """Return the answer for a job that has failed."""
    return DIALECT.render(JobResult.refused("j", error).model_copy(update={"status": status}))


def test_a_whole_request_is_read() -> None:
    """Every key that upstream knows, and the two that we take beside them."""
    body = {
        "id": "job-1",
        "input": {
            "workflow": WORKFLOW,
            "images": [{"name": "input.png", "image": "data:image/png;base64,AAAA"}],
            "comfy_org_api_key": "secret",
            "timeout": 90,
        },
    }
    job = parse(body)
    assert job.model_dump(exclude={"comfy_org_api_key"}, exclude_defaults=True) == {
        "id": "job-1",
        "workflow": WORKFLOW,
        "files": (InputFile(name="input.png", data="data:image/png;base64,AAAA").model_dump(exclude_defaults=True),),
        "timeout_s": 90.0,
    }
    assert job.comfy_org_api_key is not None
    assert job.comfy_org_api_key.get_secret_value() == "secret"


def test_the_input_may_be_json_text() -> None:
    """Upstream takes it, and so do clients that encode twice."""
    assert parse({"input": json.dumps({"workflow": WORKFLOW})}) == parse({"input": {"workflow": WORKFLOW}})


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        ({"id": "platform", "input": {"request_id": "mine"}}, "mine"),
        ({"id": "platform", "input": {"request_id": ""}}, "platform"),
        ({"id": "sync-0b1f-u1", "input": {}}, "sync-0b1f-u1"),
        ({"input": {}}, "new"),
    ],
)
def test_the_callers_id_goes_before_the_platforms(body: dict[str, Any], job_id: str) -> None:
    """A request without any gets a new one."""
    assert parse({**body, "input": {**body["input"], "workflow": WORKFLOW}}).id == job_id


def test_empty_optional_keys_are_as_good_as_none() -> None:
    """Clients write null for what they leave out."""
    empty = {"images": None, "comfy_org_api_key": None, "timeout": None, "request_id": None}
    assert parse({"id": None, "input": {"workflow": WORKFLOW, **empty}}) == parse({"input": {"workflow": WORKFLOW}})


def test_unknown_keys_are_named_in_a_warning() -> None:
    """They are ignored, not refused; a near miss is told the right name."""
    job = parse({"webhook": "x", "input": {"workflow": WORKFLOW, "imagse": [], "zzz": 1}})
    assert job.warnings == (
        "the key 'imagse' in input is unknown and was ignored; did you mean 'images'?",
        "the key 'zzz' in input is unknown and was ignored",
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, "Please provide input"),
        ([], "Please provide input"),
        ({}, "Please provide input"),
        ({"input": None}, "Please provide input"),
        ({"input": "{not json"}, "Invalid JSON format in input"),
        ({"input": ""}, "Invalid JSON format in input"),
        ({"input": {}}, "Missing 'workflow' parameter"),
        ({"input": {"images": []}}, "Missing 'workflow' parameter"),
        ({"input": '{"images": []}'}, "Missing 'workflow' parameter"),
    ],
)
def test_input_errors_are_in_upstreams_words(body: object, text: str) -> None:
    """The whole answer is upstream's, with our code beside it."""
    assert answer_to(body) == {"error": text, "error_code": "invalid_request"}


@pytest.mark.parametrize(
    ("images", "detail"),
    [
        ({"name": "a"}, "images must be a list, it is an object"),
        ("a.png", "images must be a list, it is text"),
        (["a.png"], "images[0] must be an object, it is text"),
        ([{"name": "a", "image": ""}, {"name": "b"}], "images[1] has no 'image'"),
        ([{}], "images[0] has no 'name' and no 'image'"),
    ],
)
def test_misshapen_images_are_told_in_upstreams_words(images: object, detail: str) -> None:
    """The error is upstream's text; the details say which entry is meant."""
    text = "'images' must be a list of objects with 'name' and 'image' keys"
    assert answer_to({"input": {"workflow": WORKFLOW, "images": images}}) == {
        "error": text,
        "details": [text, detail],
        "error_code": "invalid_request",
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timeout", "30", "timeout must be a number of seconds, it is text"),
        ("timeout", True, "timeout must be a number of seconds, it is true or false"),
        ("timeout", 0, "timeout must be a positive number of seconds, up to 1000000000"),
        ("timeout", float("nan"), "timeout must be a positive number of seconds, up to 1000000000"),
        ("timeout", 10**400, "timeout must be a positive number of seconds, up to 1000000000"),
        ("request_id", 7, "request_id must be text, it is a number"),
        (
            "request_id",
            "../../evil",
            "request_id must be up to 128 letters, digits and any of . _ : @ = + -, it is '../../evil'",
        ),
        ("comfy_org_api_key", ["sk-1"], "comfy_org_api_key must be text"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(key: str, value: object, message: str) -> None:
    """The message says what must be there and what is."""
    assert refused({"input": {"workflow": WORKFLOW, key: value}}) == (message, [key])


def test_an_image_of_the_wrong_type_is_refused_by_its_path() -> None:
    """Upstream's text is about missing keys; here the keys are there."""
    images = [{"name": 3, "image": "AAAA"}, {"name": "a", "image": None}]
    assert refused({"input": {"workflow": WORKFLOW, "images": images}}) == (
        "images[0].name must be text, it is a number; images[1].image must be text, it is null",
        ["images[0].name", "images[1].image"],
    )


def test_an_input_that_is_no_object_is_refused() -> None:
    """Upstream would fail somewhere inside."""
    assert refused({"input": [1]}) == ("input must be an object, it is a list", ["input"])


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Upstream's text comes first, so that clients that look for it find it."""
    message, paths = refused({"input": {"timeout": -1, "images": 3, "request_id": 1}})
    assert message == (
        "Missing 'workflow' parameter; request_id must be text, it is a number; "
        "timeout must be a positive number of seconds, up to 1000000000; and 1 more"
    )
    assert paths == ["workflow", "request_id", "timeout", "images", "images"]


def test_a_workflow_that_is_wrong_joins_the_other_problems() -> None:
    """A caller need not come twice."""
    message, paths = refused({"input": {"timeout": -1, "workflow": {"1": {"class_type": 3}}}})
    assert (message.count(";"), paths) == (1, ["timeout", "workflow.1.class_type"])


@pytest.mark.parametrize(
    "workflow",
    [{}, "{", {"1": {"class_type": 3}}],
)
def test_a_workflow_that_alone_is_wrong_keeps_its_error(workflow: object) -> None:
    """The code tells the caller more than invalid_request would."""
    with pytest.raises(InvalidWorkflow) as caught:
        parse({"input": {"workflow": workflow}})
    assert caught.value.code == "invalid_workflow"


def test_every_file_is_an_entry_of_images() -> None:
    """Pictures as upstream gives them, and videos and the rest in the same shape."""
    assert done(artifact("a.png", data="AAAA"), artifact("b.mp4", kind=ArtifactKind.VIDEO, data="BBBB")) == {
        "images": [
            {"filename": "a.png", "type": "base64", "data": "AAAA"},
            {"filename": "b.mp4", "type": "base64", "data": "BBBB"},
        ],
    }


def test_an_empty_file_is_an_entry_too() -> None:
    """Empty data is data."""
    assert done(artifact("a.txt", kind=ArtifactKind.TEXT, data="")) == {
        "images": [{"filename": "a.txt", "type": "base64", "data": ""}]
    }


def test_nothing_produced_is_a_success() -> None:
    """The workflow ran; it saves nothing."""
    assert done() == {"status": "success_no_images", "images": []}


def test_texts_have_a_key_of_their_own() -> None:
    """Text is no image, and upstream's keys stay as they are."""
    text = artifact("text", kind=ArtifactKind.TEXT, text="a cat")
    assert done(text) == {
        "status": "success_no_images",
        "images": [],
        "texts": [{"node_id": "9", "text": "a cat"}],
    }


def test_warnings_do_not_make_a_failure() -> None:
    """They stand beside the pictures."""
    assert done(artifact("a.png", data="AAAA"), warnings=("odd",)) == {
        "images": [{"filename": "a.png", "type": "base64", "data": "AAAA"}],
        "warnings": ["odd"],
    }


def test_an_artifact_without_data_is_never_a_success() -> None:
    """A file that did not arrive is not passed over."""
    with pytest.raises(InternalError, match=r"'a\.png' was not delivered"):
        done(artifact("a.png"))


def test_an_error_is_its_message_and_hint() -> None:
    """One string, since the platform shows only that."""
    assert failed(ComfyUICrashed("ComfyUI ended", hint="Look at its log.")) == {
        "error": "ComfyUI ended. Look at its log.",
        "error_code": "comfyui_crashed",
    }


def test_an_execution_error_is_in_upstreams_words() -> None:
    """With the hint in the details, so that the text stays upstream's."""
    details: dict[str, JsonValue] = {"node_id": "4", "class_type": "KSampler", "exception_message": "bad size\n"}
    assert failed(NodeExecutionError("node 4 failed", hint="Look there.", details=details)) == {
        "error": "Workflow execution error: Node Type: KSampler, Node ID: 4, Message: bad size",
        "details": ["Look there."],
        "error_code": "node_execution_error",
    }
    assert failed(OutOfMemory("node 4 ran out", details=details))["error_code"] == "out_of_memory"


def test_an_execution_error_without_a_node_keeps_its_message() -> None:
    """Where ComfyUI does not say which node it was, nothing is invented."""
    assert failed(NodeExecutionError("no reason given")) == {
        "error": "no reason given",
        "error_code": "node_execution_error",
    }


def test_details_list_each_problem_with_its_place() -> None:
    """A problem whose words name no place gets its path."""
    problems = [
        Problem(
            message="node 4 (KSampler), input steps: 0 is less than 1", path="workflow.4.inputs.steps", node_id="4"
        ),
        Problem(message="is odd", path="images[0].image"),
    ]
    assert failed(InvalidWorkflow("2 problems", problems=problems)) == {
        "error": "2 problems",
        "details": ["node 4 (KSampler), input steps: 0 is less than 1", "images[0].image: is odd"],
        "error_code": "invalid_workflow",
    }


def test_a_canceled_job_is_an_error() -> None:
    """Upstream's clients know no third outcome."""
    assert failed(JobCanceled("the job was canceled"), JobStatus.CANCELED) == {
        "error": "the job was canceled",
        "error_code": "job_canceled",
    }


def test_a_job_that_ended_without_saying_why_is_an_error() -> None:
    """Only a succeeded job is answered as a success."""
    assert DIALECT.render(JobResult(id="j", status=JobStatus.EXPIRED)) == {
        "error": "the job ended as expired",
        "error_code": "internal_error",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=6), inner, max_size=3)
    ),
    max_leaves=10,
)
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "workflow": JSON | st.just(WORKFLOW),
        "images": JSON | st.lists(st.fixed_dictionaries({"name": JSON, "image": JSON}), max_size=2),
        "timeout": JSON,
        "request_id": JSON,
        "comfy_org_api_key": JSON,
        "other": JSON,
    },
)


@given(JSON | st.fixed_dictionaries({"input": JSON | INPUTS}, optional={"id": JSON}))
def test_any_request_gives_a_job_or_a_worker_error(body: object) -> None:
    """No request, however odd, raises anything foreign, and each refusal can be answered."""
    try:
        job = parse(body)
    except WorkerError as error:
        answer = DIALECT.render(JobResult.refused("j", error))
    else:
        answer = {"error": job.id}
    assert answer["error"]
