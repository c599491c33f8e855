"""What RunPod's SDK says, in the worker's log."""

import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from comfyworker.hosts.runpod.speech import Speech

KEY = "rpa_0123456789"


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("Finished.", "Finished."),
        ("Handler output: {'images': ['abc']}", "Handler output: …"),
        ("Uncaught | ['Traceback: secret']", "Uncaught | …"),
        (
            "Failed | 500, message='x', url='https://api.runpod.ai/v2/e/job-take/w?gpu=4090&key=k3y'",
            "Failed | 500, message='x', url='https://api.runpod.ai/v2/e/job-take/w?…'",
        ),
        (
            "Max retries exceeded with url: /v2/e/ping/pod?a=b (Caused by",
            "Max retries exceeded with url: …/pod?… (Caused by",
        ),
        (f"using {KEY}", "using …"),
    ],
)
def test_payloads_and_secrets_are_cut(said: str, logged: str) -> None:
    """What stands behind the first brace, query strings, and the worker's own keys."""
    with capture_logs() as events:
        Speech("DEBUG", secrets=(KEY, "")).say(said, "DEBUG", "job-1")
    assert events == [{"event": "runpod.said", "message": logged, "job_id": "job-1", "log_level": "debug"}]


@pytest.mark.parametrize(
    ("level", "heard"),
    [("NOTSET", []), ("DEBUG", ["DEBUG", "INFO", "WARN", "ERROR"]), ("WARN", ["WARN", "ERROR"])],
)
def test_the_level_says_how_much(level: str, heard: list[str]) -> None:
    """RUNPOD_LOG_LEVEL is what the SDK's own logger would go by."""
    speech = Speech(level)
    with capture_logs() as events:
        for said in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR"):
            speech.say(said, said)
    assert [event["message"] for event in events] == heard


def test_the_sdks_logger_speaks_here() -> None:
    """Whatever it is called with."""

    class Logger:
        def log(self, *said: object) -> None:
            raise AssertionError(said)

    Speech("INFO").replace(Logger)
    with capture_logs() as events:
        Logger().log("one")
        Logger().log("two", "WARN", "job-1")
    named: list[dict[str, Any]] = [{"message": "one"}, {"message": "two", "job_id": "job-1"}]
    levels = ["info", "warning"]
    assert events == [
        {"event": "runpod.said", "log_level": level, **said} for said, level in zip(named, levels, strict=True)
    ]


def test_what_is_printed_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches stdout; a line without an end is said, too; libraries' warnings come without their URLs."""
    with capture_logs() as events, Speech("INFO").listening():
        print("--- Starting ---\nhalf a", end="")
        print(" line", end="")
        logging.getLogger("urllib3").warning("Retrying: %s", "/ping/pod?token=abc")
    assert [event["message"] for event in events] == [
        "--- Starting ---",
        "urllib3: Retrying: …/pod?…",
        "half a line",
    ]
    assert capsys.readouterr().out == ""
