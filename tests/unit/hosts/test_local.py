"""Requests that are answered without starting anything."""

import pytest

from comfyworker.dialects import dialect_named
from comfyworker.hosts.local import answer
from comfyworker.settings import load_settings

REFUSED = b'{"input": {"request_id": "mine", "response_format": "pyworker"}}'


@pytest.mark.parametrize(
    ("content", "environ", "dialect", "key"),
    [
        pytest.param(REFUSED, {}, None, "timings", id="the request chooses"),
        pytest.param(REFUSED, {}, "flux", "error_type", id="the caller goes before the request"),
        pytest.param(b'{"input": {}}', {"RESPONSE_FORMAT": "flux"}, None, "error_type", id="else the setting"),
        pytest.param(b"{", {"RESPONSE_FORMAT": "flux"}, None, "error_type", id="no JSON"),
        pytest.param(b"[]", {"RESPONSE_FORMAT": "flux"}, None, "error_type", id="no object"),
    ],
)
async def test_who_chooses_the_dialect(content: bytes, environ: dict[str, str], dialect: str | None, key: str) -> None:
    """The caller, else the request, else the setting; also for requests that cannot be read."""
    settings = load_settings(environ)
    given, is_success = await answer(content, settings, dialect=None if dialect is None else dialect_named(dialect))
    assert (key in given, is_success) == (True, False)


async def test_a_refused_request_keeps_its_id_and_its_times() -> None:
    """The times are measured: when it came, when it was answered, and the time between."""
    given, _ = await answer(REFUSED, load_settings({}))
    timings = given.pop("timings")
    assert isinstance(timings, dict)
    unknown = {key for key, value in timings.items() if value is None}
    assert unknown == {"preprocess_ms", "generation_ms", "postprocess_ms"}
    assert given == {
        "id": "mine",
        "message": "input has no workflow: send workflow, workflow_json, or modifier with modifications",
        "status": "failed",
        "comfyui_response": {},
        "output": [],
        "error_code": "invalid_request",
    }
