"""The worker's own log."""

import io
import json
import secrets

import pytest
import structlog

from comfyworker.logs import configure_logs
from comfyworker.settings import LogSettings


def fail_with(secret: str) -> None:
    """Raise, with a secret in a local variable."""
    url = f"https://example.com/?signature={secret}"
    raise ValueError(len(url))


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    """They hold presigned URLs and keys; where it happened is told all the same."""
    out, secret = io.StringIO(), secrets.token_hex()
    configure_logs(LogSettings.model_validate({"format": form}), stream=out)
    try:
        fail_with(secret)
    except ValueError:
        structlog.get_logger("test").exception("job.broke", stage="deliver")
    assert secret not in out.getvalue()
    assert "fail_with" in out.getvalue()
    if form == "json":
        assert json.loads(out.getvalue())["event"] == "job.broke"
