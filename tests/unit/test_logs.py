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


def test_a_terminal_gets_phases_as_bars_and_a_program_as_they_are() -> None:
    """The start is read by both."""
    phases = [{"name": "process", "begun_s": 0.0, "ended_s": 0.5}, {"name": "comfyui", "begun_s": 0.5, "ended_s": 2.0}]
    drawn, written = io.StringIO(), io.StringIO()
    for form, out in (("console", drawn), ("json", written)):
        configure_logs(LogSettings.model_validate({"format": form}), stream=out)
        structlog.get_logger("test").info("startup.ready", total_s=2.0, phases=phases)
    line, *bars = drawn.getvalue().splitlines()
    assert "startup.ready" in line
    assert "begun_s" not in drawn.getvalue()
    assert [bar.split()[0] for bar in bars] == ["process", "comfyui"]
    assert json.loads(written.getvalue())["phases"] == phases
