"""Where a request's models are: `input.models`."""

from typing import Any

import pytest

from comfyworker.dialects.request import parse_request
from comfyworker.errors import InvalidRequest
from comfyworker.jobs import JobRequest, ModelOffer

URL = "https://example.com/a.safetensors"
DIGEST = "AB" * 32


def parse(*models: Any) -> JobRequest:
    """Return the job of a request with these models."""
    workflow = {"1": {"class_type": "A", "inputs": {}}}
    return parse_request({"input": {"workflow": workflow, "models": list(models)}}, new_id=lambda: "job")


def test_all_keys() -> None:
    """They are those of a model in config.yml."""
    request = parse(
        {"url": URL, "destination": "lora/wan", "filename": "b.safetensors", "sha256": f"sha256:{DIGEST}", "size": 17},
        {"url": "hf://owner/name/c.safetensors", "folder": "models/vae", "filename": None},
    )
    assert request.models == (
        ModelOffer(url=URL, destination="loras/wan", filename="b.safetensors", sha256=DIGEST.lower(), size_bytes=17),
        ModelOffer(url="hf://owner/name/c.safetensors", destination="vae", filename="c.safetensors"),
    )
    assert request.warnings == ()


def test_unknown_keys_are_warned_of() -> None:
    """With the place, and the key that may be meant."""
    request = parse({"url": URL, "destination": "vae", "file_name": "x"})
    assert request.warnings == (
        "the key 'file_name' in models[0] is unknown and was ignored; did you mean 'filename'?",
    )


@pytest.mark.parametrize(
    ("entry", "path", "code"),
    [
        ("text", "models[0]", "wrong_type"),
        ({"destination": "vae"}, "models[0].url", "missing_url"),
        ({"url": URL}, "models[0].destination", "missing_destination"),
        ({"url": URL, "destination": "vae", "folder": "vae"}, "models[0].destination", "two_destinations"),
        ({"url": URL, "destination": "../vae"}, "models[0].destination", "invalid_destination"),
        ({"url": URL, "folder": "/etc"}, "models[0].folder", "invalid_destination"),
        ({"url": URL, "destination": "vae", "filename": "../x"}, "models[0].filename", "invalid_value"),
        ({"url": URL, "destination": "vae", "filename": ".x"}, "models[0].filename", "invalid_value"),
        ({"url": URL, "destination": "vae", "sha256": "12"}, "models[0].sha256", "invalid_value"),
        ({"url": URL, "destination": "vae", "size": 0}, "models[0].size", "invalid_value"),
        ({"url": "file:///etc/passwd", "destination": "vae"}, "models[0].url", "invalid_url"),
        ({"url": "s3://bucket/x.safetensors", "destination": "vae"}, "models[0].url", "invalid_url"),
        ({"url": "/etc/passwd", "destination": "vae"}, "models[0].url", "invalid_url"),
        ({"url": "https://user:pw@example.com/x.pt", "destination": "vae"}, "models[0].url", "invalid_url"),
        ({"url": "https://example.com/models/1", "destination": "vae"}, "models[0].filename", "missing_filename"),
        ({"url": 7, "destination": "vae"}, "models[0].url", "wrong_type"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(entry: Any, path: str, code: str) -> None:
    """With its place; what was sent as URL is never repeated."""
    with pytest.raises(InvalidRequest) as caught:
        parse(entry)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [(path, code)]
    assert "pw@" not in str(caught.value.to_dict())


def test_there_is_an_end_to_it() -> None:
    """Nobody's workflow has a hundred models."""
    with pytest.raises(InvalidRequest, match="models must be 100 at most, there are 101"):
        parse(*[{"url": URL, "destination": "vae", "filename": f"{index}.sft"} for index in range(101)])
