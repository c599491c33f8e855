"""What `comfyworker test` takes for a job: RunPod's own shapes, and a bare workflow."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any, Final

import structlog

from comfyworker.errors import InvalidRequest
from comfyworker.hosts.local import parse_json
from comfyworker.hosts.trial import Job
from comfyworker.workflow.gui import is_gui_format

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

TEST_INPUT: Final = "test_input.json"
"""Where RunPod's SDK looks for a job."""
# Needs no model, so it runs on every ComfyUI.
_BAKED_IN: Final = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 3368601}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "test"}},
}
_SHAPE: Final = (
    'Give one object: {"input": {"workflow": {…}}}, or what belongs into its `input`, or a workflow, or the '
    '{"tests": […]} of a .runpod/tests.json.'
)


def read_jobs(given: list[str]) -> list[Job]:
    """Return the jobs that the command line names: files, JSON, or `-` for standard input.

    Without any, `test_input.json` in the current folder, else a job that every ComfyUI can run.

    Raises:
        InvalidRequest: one cannot be read, or is no job.
    """
    if given.count("-") > 1:
        raise InvalidRequest("standard input can only be read once", hint="Name `-` a single time.")
    if given:
        return [job for text in given for job in _read(text)]
    if Path(TEST_INPUT).exists():
        log.info("test.input_chosen", source=TEST_INPUT)
        return _read(TEST_INPUT)
    log.info("test.input_chosen", source="built in", hint=f"put a job into {TEST_INPUT}, or name one with --input")
    return [_job({"workflow": _BAKED_IN})]


def _read(text: str) -> list[Job]:
    """Return the jobs of one file, of JSON as it is, or of standard input."""
    if text.lstrip()[:1] in {"{", "["}:
        return _jobs(parse_json(text.encode(), name="--input", hint=_SHAPE), name="--input")
    if text == "-":
        return _jobs(parse_json(sys.stdin.buffer.read(), name="standard input", hint=_SHAPE), name="standard input")
    if not text.strip():
        raise InvalidRequest("--input is empty", hint=f"Name a file, - for standard input, or JSON. {_SHAPE}")
    try:
        content = Path(text).read_bytes()
    except (OSError, ValueError) as error:  # ValueError for a name that no file can have
        reason = (getattr(error, "strerror", None) or "it cannot be read").lower()
        raise InvalidRequest(
            f"{text[:200]}: {reason}", hint=f"Name a file, - for standard input, or JSON. {_SHAPE}"
        ) from error
    return _jobs(parse_json(content, name=text, hint=_SHAPE), name=text)


def _jobs(parsed: object, *, name: str) -> list[Job]:
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"{name} is no object", hint=_SHAPE)
    tests = parsed.get("tests")
    if not isinstance(tests, list) or "input" in parsed:
        return [_job(parsed)]
    if not tests or not all(isinstance(test, dict) and "input" in test for test in tests):
        raise InvalidRequest(f"{name}: `tests` must be a list of objects that have an `input`", hint=_SHAPE)
    return [_hub_job(test) for test in tests]


def _job(parsed: dict[str, Any]) -> Job:  # Any: JSON from outside
    """Return a job, whether `parsed` is one, the `input` of one, or a workflow."""
    if "input" not in parsed:
        is_workflow = is_gui_format(parsed) or any(
            isinstance(node, dict) and "class_type" in node for node in parsed.values()
        )
        parsed = {"input": {"workflow": parsed} if is_workflow else parsed}
    return {**parsed, "id": parsed.get("id") or f"test-{uuid.uuid4()}"}


def _hub_job(test: dict[str, Any]) -> Job:  # Any: JSON from outside
    """Return a job as RunPod's Hub runs it: `{name, input, timeout}`, the timeout in milliseconds."""
    job = _job({"input": test["input"]})
    if test.get("timeout") is not None:
        job["policy"] = {"executionTimeout": test["timeout"]}
    return {**job, "id": test["name"]} if isinstance(test.get("name"), str) and test["name"] else job
