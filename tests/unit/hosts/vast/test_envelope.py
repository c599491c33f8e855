"""What Vast's client wraps a request in."""

import pytest

from comfyworker.errors import InvalidRequest
from comfyworker.hosts.vast.envelope import Envelope, open_envelope

JOB = {"input": {"workflow_json": {}}, "expected_time": 7}


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        pytest.param(JOB, Envelope(None, None, JOB), id="bare"),
        pytest.param([1], Envelope(None, None, [1]), id="no object"),
        pytest.param({"auth_data": {}, "session_id": None, "payload": JOB}, Envelope({}, None, JOB), id="wrapped"),
        pytest.param({"auth_data": {}, "session_id": "", "payload": JOB}, Envelope({}, None, JOB), id="empty session"),
        pytest.param({"session_id": "s", "payload": JOB}, Envelope(None, "s", JOB), id="session"),
    ],
)
def test_the_parts_come_apart(body: object, envelope: Envelope) -> None:
    """Wrapped or bare, the payload is what is asked for."""
    assert open_envelope(body) == envelope
    assert envelope.expected_time == (7 if envelope.payload is JOB else None)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """An envelope without payload and with an odd session names both."""
    with pytest.raises(InvalidRequest) as caught:
        open_envelope({"auth_data": {}, "session_id": 3})
    assert [problem.path for problem in caught.value.problems] == ["payload", "session_id"]
