"""The OpenAPI document says of a request what the dialects read of it."""

import json

from comfyworker.dialects import dialect_named
from comfyworker.hosts.http.documents import JobInput, request_body, schema_of
from comfyworker.hosts.http.runpod.documents import RunRequest
from comfyworker.hosts.http.vast.documents import WrappedRequest

EXAMPLES: dict[str, object] = {
    "workflow_json": {},
    "modifier": "",
    "modifications": {},
    "images": [],
    "models": [],
    "overrides": [],
    "output": {},
    "s3": {},
    "webhook": {},
    "seed": 1,
    "width": 64,
    "height": 64,
    "steps": 1,
    "timeout": 1,
    "return_outputs_as_base64": True,
}


def test_each_documented_key_is_known() -> None:
    """No key of the document is one that a dialect warns of."""
    given = {name: EXAMPLES.get(name, "") for name in JobInput.model_fields}
    given["workflow"] = {"1": {"class_type": "SaveImage", "inputs": {}}}
    request = dialect_named("pyworker").parse({"input": given}, new_id=lambda: "x")
    assert request.warnings == ()


def test_no_reference_is_left() -> None:
    """What a route's own part of the document refers to would be looked for in the whole document."""
    for model in (RunRequest, WrappedRequest):
        assert "$ref" not in json.dumps(request_body(model))
    properties = schema_of(RunRequest)["properties"]
    assert set(properties) == {"input", "webhook", "policy", "s3Config"}
    assert "workflow" in properties["input"]["properties"]
