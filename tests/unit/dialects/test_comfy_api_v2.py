"""Comfy API v2: what its requests ask for, and what its jobs and errors look like."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.dialects import comfy_api_v2, dialect_named
from comfyworker.dialects.comfy_api_v2 import Whereabouts, as_time, read_labels, render_error, render_output
from comfyworker.errors import (
    HashMismatch,
    InternalError,
    InvalidRequest,
    InvalidWorkflow,
    MissingModel,
    MissingNode,
    NodeExecutionError,
    Problem,
    QueueFull,
    WorkerError,
)
from comfyworker.jobs import (
    ArtifactKind,
    DeliveryMode,
    JobError,
    JobRequest,
    JobResult,
    JobStatus,
    Progress,
    Timings,
)
from strategies import json_values
from support.artifacts import artifact

GRAPH = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}}
ASSET = {"__type": "core/ASSET", "info": {"id": "7", "hash": "blake3:0", "file_path": "a.png"}}


def parse(body: object) -> JobRequest:
    """Parse a request."""
    return dialect_named("comfy-api-v2").parse(body, new_id=lambda: "new")


def all_errors(base: type[WorkerError] = WorkerError) -> Iterator[type[WorkerError]]:
    """Yield every error class."""
    for child in base.__subclasses__():
        yield child
        yield from all_errors(child)


def test_a_request_of_the_contract() -> None:
    """The workflow as it came, assets included; the partner key; an id of ours; files get URLs."""
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": ASSET}}}
    body = {"workflow": graph, "extra_data": {"api_key_comfy_org": "secret-key"}, "metadata": {"client": "acme"}}
    job = parse(body)
    assert (job.id, job.workflow, job.output.delivery, job.warnings) == ("new", graph, DeliveryMode.URL, ())
    assert job.comfy_org_api_key is not None
    assert job.comfy_org_api_key.get_secret_value() == "secret-key"
    assert "secret-key" not in repr(job)
    assert read_labels(body) == {"client": "acme"}


def test_other_keys_stand_beside_the_workflow() -> None:
    """What other dialects have under `input` stands here as it is; what nobody knows is a warning."""
    body = {
        "workflow": GRAPH,
        "prompt": "a cat",
        "timeout": 5,
        "request_id": "mine",
        "extra_data": {"extra_pnginfo": {}},
        "frobnicate": 1,
    }
    job = parse(body)
    assert (job.id, job.timeout_s) == ("mine", 5.0)
    assert job.shortcuts is not None
    assert job.shortcuts.prompt == "a cat"
    assert [warning.split(" in ")[0] for warning in job.warnings] == [
        "the key 'frobnicate'",
        "the key 'extra_pnginfo'",
    ]


def test_the_other_shape_is_taken_too() -> None:
    """`input`, as the other dialects have it."""
    assert parse({"input": {"workflow": GRAPH}}).workflow == parse({"workflow": GRAPH}).workflow


@pytest.mark.parametrize(
    ("wanted", "given_way"),
    [("auto", DeliveryMode.URL), ("base64", DeliveryMode.URL), ("url", DeliveryMode.URL), ("s3", DeliveryMode.S3)],
)
def test_answers_hold_no_bytes(wanted: str, given_way: DeliveryMode) -> None:
    """Whoever asks for base64 gets URLs: an output has no place for bytes."""
    assert parse({"workflow": GRAPH, "output": {"delivery": wanted}}).output.delivery is given_way


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], "the request"),
        ({"workflow": GRAPH, "extra_data": 3}, "extra_data"),
        ({"workflow": GRAPH, "extra_data": {"api_key_comfy_org": 3}}, "extra_data.api_key_comfy_org"),
        ({"workflow": GRAPH, "timeout": "x"}, "timeout"),
        ({}, "workflow"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(body: object, path: str) -> None:
    """As everywhere."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.problems[0].path == path


@given(json_values() | st.fixed_dictionaries({"workflow": json_values()}, optional={"metadata": json_values()}))
def test_any_json_is_taken_or_refused(body: Any) -> None:
    """Nothing else comes of it."""
    for read in (parse, read_labels):
        try:
            read(body)
        except WorkerError as error:
            json.dumps(render_error(error))


@pytest.mark.parametrize(
    "metadata",
    ["text", ["a"], {"a": 1}, {"": "x"}, {"a": "x" * 257}, {"x" * 257: "a"}, {str(index): "" for index in range(17)}],
)
def test_labels_have_limits(metadata: object) -> None:
    """Sixteen texts, none of them long; the code is the contract's."""
    with pytest.raises(InvalidRequest) as caught:
        read_labels({"metadata": metadata})
    status, envelope = render_error(caught.value)
    assert (status, envelope["error"]["code"]) == (422, "metadata_invalid")  # type: ignore[index,call-overload]  # JSON


def test_no_labels_are_fine() -> None:
    """Whatever the request is."""
    bodies: list[Any] = [{}, [], None, {"metadata": None}, {"metadata": {}}]
    assert [read_labels(body) for body in bodies] == [{}] * 5


@pytest.mark.parametrize("error_class", sorted(set(all_errors()), key=str), ids=lambda error: str(error.__name__))
def test_every_error_has_its_envelope(error_class: type[WorkerError]) -> None:
    """A code, a message, the hint and each problem; retryable where it is."""
    error = error_class("what and where", hint="do that", problems=[Problem(message="first", node_id="3")])
    status, envelope = render_error(error)
    shown: Any = envelope["error"]
    assert (set(envelope), status >= 400) == ({"error"}, True)
    assert (shown["message"], shown["details"]["hint"]) == ("what and where", "do that")
    assert shown["details"].get("retryable", False) == error.retryable
    assert shown["details"]["node_errors"] == {"3": [{"field": None, "reason": None, "message": "first"}]}


@pytest.mark.parametrize(
    ("error", "status", "code", "reason"),
    [
        (InvalidWorkflow("x"), 422, "invalid_workflow", None),
        (MissingNode("x"), 422, "invalid_workflow", "missing_node"),
        (MissingModel("x"), 422, "invalid_workflow", "missing_model"),
        (QueueFull("x", details={"retry_after_s": 3}), 429, "queue_full", None),
        (HashMismatch("x"), 409, "hash_mismatch", None),
        (InternalError("x"), 500, "internal_error", None),
    ],
)
def test_codes_are_those_that_clients_know(error: WorkerError, status: int, code: str, reason: str | None) -> None:
    """Ours where the contract has none so fine is in the details."""
    answered, envelope = render_error(error)
    shown: Any = envelope["error"]
    assert (answered, shown["code"], shown.get("details", {}).get("reason")) == (status, code, reason)


def test_an_error_without_details_has_none() -> None:
    """No empty keys."""
    assert render_error(InternalError("x"))[1] == {"error": {"code": "internal_error", "message": "x"}}


def test_an_output_has_the_contracts_keys() -> None:
    """All of them, those that are not known included."""
    found = Whereabouts("asset", "http://x/a", 0.5, "blake3:1")
    assert render_output(artifact(), found, job_id="job") == {
        "node_id": "9",
        "name": "a.png",
        "type": "image",
        "content_type": "image/png",
        "size_bytes": 3,
        "id": "asset",
        "hash": "blake3:1",
        "url": "http://x/a",
        "url_expires_at": "1970-01-01T00:00:00.500Z",
        "job_id": "job",
    }


def test_a_result_is_a_job() -> None:
    """On a host that keeps no assets, an output has its URL or its bytes, and a text stands there itself."""
    text = artifact("t.txt", kind=ArtifactKind.TEXT, text="hello")
    artifacts = (artifact(url="http://x/a"), artifact(data="AAAA"), text)
    result = JobResult(
        id="job",
        status=JobStatus.SUCCEEDED,
        artifacts=artifacts,
        created_at=1.0,
        completed_at=2.0,
        timings=Timings(wait_s=0.25, execute_s=0.5),
        used={"seed": 5},
        warnings=("odd",),
    )
    job: Any = dialect_named("comfy-api-v2").render(result)
    assert (job["id"], job["status"], job["error"], job["metrics"]) == (
        "job", "succeeded", None, {"queue_ms": 250, "execution_ms": 500},
    )  # fmt: skip
    assert (job["used"], job["warnings"]) == ({"seed": 5}, ["odd"])
    assert [output["url"] for output in job["outputs"]] == ["http://x/a", "", ""]
    assert (job["outputs"][1]["data_base64"], job["outputs"][2]["text"]) == ("AAAA", "hello")


def test_a_failed_result_says_why() -> None:
    """With the node; what did not arrive is no output."""
    error = NodeExecutionError("it broke", hint="mend it", details={"node_id": "5", "class_type": "KSampler"})
    job: Any = dialect_named("comfy-api-v2").render(JobResult.refused("job", error))
    assert job["error"] == {
        "code": "node_execution_error",
        "message": "it broke. mend it",
        "node_id": "5",
        "class_type": "KSampler",
        "traceback": None,
        "retryable": False,
    }
    refused = InvalidWorkflow("bad", problems=[Problem(message="bad", node_id="3", class_type="X")])
    shown = comfy_api_v2.render_job_error(JobError.of(refused))
    assert (shown["node_id"], shown["class_type"], shown["problems"]) == (
        "3", "X", [{"message": "bad", "node_id": "3", "class_type": "X"}],
    )  # fmt: skip


def test_progress_is_whole() -> None:
    """Every key at every time."""
    shown = comfy_api_v2.render_progress(Progress(value=0.5, nodes_done=1, nodes_total=2, step=3, steps=4))
    assert shown == {
        "value": 0.5,
        "nodes_done": 1,
        "nodes_total": 2,
        "current_node": None,
        "current_node_class": None,
        "step": 3,
        "steps": 4,
        "message": None,
    }
    assert (comfy_api_v2.render_progress(None), as_time(None)) == (None, None)
