"""The dialect `worker-comfyui`: what RunPod's worker-comfyui takes and answers.

Request: `{"input": {"workflow", "images": [{"name", "image"}]?, "comfy_org_api_key"?}}`; `input` may be JSON text.
We also take `input.timeout` (seconds) and `input.request_id`.

Answer: `{"images": [{"filename", "type": "base64", "data"}]}`; without any, `"status": "success_no_images"` beside it.
Upstream returns pictures only; here every file is an entry of `images`, in the same shape. Keys that upstream does not
have, each left out when it would be empty:

- `texts`: `[{"node_id", "text"}]`, what nodes reported as text.
- `warnings`: `[str]`, what went differently than asked although the job succeeded.

Error: `{"error": str, "details": [str]?}` in upstream's words where it has any; `details` lists every problem where
`error` does not say all. One more key:

- `error_code`: the code of the error, for programs.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import JsonValue, SecretStr

from comfyworker.errors import InternalError, InvalidRequest, InvalidWorkflow, Problem
from comfyworker.jobs import Artifact, Graph, InputFile, JobError, JobRequest, JobResult, JobStatus
from comfyworker.workflow.graph import read_workflow

# Upstream's texts; clients compare them.
NO_INPUT = "Please provide input"
INPUT_NOT_JSON = "Invalid JSON format in input"
NO_WORKFLOW = "Missing 'workflow' parameter"
IMAGES_NOT_A_LIST = "'images' must be a list of objects with 'name' and 'image' keys"
NO_IMAGES = "success_no_images"

_KNOWN_KEYS = ("workflow", "images", "comfy_org_api_key", "timeout", "request_id")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}")
"""What an id may be: it becomes a key in stores and logs, so nothing that could be a path."""
_MAX_TIMEOUT_S = 1_000_000_000
_ENTRY = "invalid_images_entry"
"""The code of problems that only go into details: upstream's text for all of them is the message."""
_EXECUTION_CODES = frozenset({"node_execution_error", "out_of_memory"})
_LISTED_PROBLEMS = 3
_SHOWN_CHARS = 40


class WorkerComfyUIDialect:
    """Parses and renders as worker-comfyui does."""

    name = "worker-comfyui"

    def parse(self, body: object, *, new_id: Callable[[], str]) -> JobRequest:
        """Return the job that a request asks for.

        Args:
            body: The request as parsed JSON, of any shape; keys beside `input` and `id` are the platform's.
            new_id: Gives an id for a request that brings none.

        Raises:
            InvalidRequest: with everything that is wrong with the request.
            InvalidWorkflow: the workflow is all that is wrong.
        """
        given = _read_input(body)
        problems: list[Problem] = []
        job_id = _read_id(given.get("request_id"), "request_id", problems)
        platform_id = _read_id(body.get("id") if isinstance(body, Mapping) else None, "id", problems)
        timeout_s = _read_timeout(given.get("timeout"), problems)
        api_key = _read_api_key(given.get("comfy_org_api_key"), problems)
        files = _read_images(given.get("images"), problems)
        workflow = _read_workflow(given.get("workflow"), problems)
        if problems:
            raise _refused(problems)
        return JobRequest(
            id=job_id or platform_id or new_id(),
            workflow=workflow,
            files=files,
            timeout_s=timeout_s,
            comfy_org_api_key=api_key,
            warnings=_unknown_keys(given),
        )

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact was not delivered inline.
        """
        is_success = result.status is JobStatus.SUCCEEDED and result.error is None
        answer = _render_outputs(result) if is_success else _render_error(result)
        if result.warnings:
            answer["warnings"] = list(result.warnings)
        return answer


def _render_outputs(result: JobResult) -> dict[str, JsonValue]:
    images: list[JsonValue] = [_render_file(artifact) for artifact in result.artifacts if artifact.text is None]
    texts: list[JsonValue] = [
        {"node_id": artifact.node_id, "text": artifact.text}
        for artifact in result.artifacts
        if artifact.text is not None
    ]
    answer: dict[str, JsonValue] = {"images": images} if images else {"status": NO_IMAGES, "images": images}
    if texts:
        answer["texts"] = texts
    return answer


def _render_file(artifact: Artifact) -> dict[str, JsonValue]:
    if artifact.data is None:
        raise InternalError(f"artifact '{artifact.name}' was not delivered inline")
    return {"filename": artifact.name, "type": "base64", "data": artifact.data}


def _render_error(result: JobResult) -> dict[str, JsonValue]:
    error = result.error or JobError(code=InternalError.code, message=f"the job ended as {result.status}")
    details = [_render_problem(problem) for problem in error.problems]
    message = _execution_text(error)
    if message is not None:
        details += [error.hint] if error.hint else []
    else:
        message = _with_hint(error.message, error.hint)
    answer: dict[str, JsonValue] = {"error": message}
    if details and details != [error.message]:
        answer["details"] = list(details)
    answer["error_code"] = error.code
    return answer


def _execution_text(error: JobError) -> str | None:
    """Return what upstream says when a node raised; None if that is not what happened."""
    node_id, class_type = error.details.get("node_id"), error.details.get("class_type")
    if error.code not in _EXECUTION_CODES or node_id is None:
        return None
    message = str(error.details.get("exception_message", error.message)).strip()
    return f"Workflow execution error: Node Type: {class_type}, Node ID: {node_id}, Message: {message}"


def _with_hint(message: str, hint: str | None) -> str:
    if not hint:
        return message
    return f"{message} {hint}" if message.endswith((".", "!", "?")) else f"{message}. {hint}"


def _render_problem(problem: Mapping[str, JsonValue]) -> str:
    message, path = str(problem.get("message", "")), problem.get("path")
    is_placed = path is None or str(path) in message or problem.get("node_id") is not None
    return message if is_placed else f"{path}: {message}"


def _read_input(body: object) -> Mapping[str, Any]:  # Any: JSON from outside, looked at key by key
    given = body.get("input") if isinstance(body, Mapping) else None
    if given is None:
        raise _refused([Problem(message=NO_INPUT, code="missing_input", path="input")])
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise _refused([Problem(message=INPUT_NOT_JSON, code="not_json", path="input")]) from error
    if not isinstance(given, Mapping):
        raise _refused([_wrong_type("input", "an object", given)])
    return given


def _read_workflow(value: object, problems: list[Problem]) -> Graph:
    """Return the graph; if there are other problems already, its problems join them."""
    if value is None:
        # First: upstream's clients know this text, and without a workflow nothing else matters much.
        problems.insert(0, Problem(message=NO_WORKFLOW, code="missing_workflow", path="workflow"))
        return {}
    try:
        # The preflight finds links to nodes that are not there, together with all else that ComfyUI would refuse.
        return read_workflow(value, path="workflow", check_links=False)
    except InvalidWorkflow as error:
        if not problems:
            raise
        problems.extend(error.problems)
        return {}


def _read_images(value: object, problems: list[Problem]) -> tuple[InputFile, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or any(not isinstance(item, Mapping) or _missing(item) for item in value):
        problems.append(Problem(message=IMAGES_NOT_A_LIST, code="invalid_images", path="images"))
        problems.extend(_misshapen(value))
        return ()
    files = []
    for index, item in enumerate(value):
        wrong = [key for key in ("name", "image") if not isinstance(item[key], str)]
        problems.extend(_wrong_type(f"images[{index}].{key}", "text", item[key]) for key in wrong)
        if not wrong:
            files.append(InputFile(name=item["name"], data=item["image"]))
    return tuple(files)


def _missing(item: Mapping[str, object]) -> list[str]:
    return [key for key in ("name", "image") if key not in item]


def _misshapen(images: object) -> list[Problem]:
    """Return a problem for each entry that is not as upstream's text says."""
    if not isinstance(images, list):
        return [_wrong_type("images", "a list", images, code=_ENTRY)]
    problems = []
    for index, item in enumerate(images):
        path = f"images[{index}]"
        if not isinstance(item, Mapping):
            problems.append(_wrong_type(path, "an object", item, code=_ENTRY))
        elif _missing(item):
            lacks = " and no ".join(f"'{key}'" for key in _missing(item))
            problems.append(Problem(message=f"{path} has no {lacks}", code=_ENTRY, path=path))
    return problems


def _read_timeout(value: object, problems: list[Problem]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        problems.append(_wrong_type("timeout", "a number of seconds", value))
        return None
    if not 0 < value <= _MAX_TIMEOUT_S:
        message = f"timeout must be a positive number of seconds, up to {_MAX_TIMEOUT_S}"
        problems.append(Problem(message=message, code="invalid_value", path="timeout"))
        return None
    return float(value)


def _read_id(value: object, path: str, problems: list[Problem]) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        problems.append(_wrong_type(path, "text", value))
        return None
    if _ID.fullmatch(value) is None:
        message = f"{path} must be up to 128 letters, digits and any of . _ : @ = + -, it is {_shown(value)}"
        problems.append(Problem(message=message, code="invalid_value", path=path))
        return None
    return value


def _read_api_key(value: object, problems: list[Problem]) -> SecretStr | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        # What was sent is not repeated: it may be the key all the same.
        message = "comfy_org_api_key must be text"
        problems.append(Problem(message=message, code="wrong_type", path="comfy_org_api_key"))
        return None
    return SecretStr(value)


def _unknown_keys(given: Mapping[str, object]) -> tuple[str, ...]:
    warnings = []
    for key in given:
        if key not in _KNOWN_KEYS:
            near = difflib.get_close_matches(str(key)[:_SHOWN_CHARS], _KNOWN_KEYS, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            warnings.append(f"the key {_shown(str(key))} in input is unknown and was ignored{meant}")
    return tuple(warnings)


def _wrong_type(path: str, wanted: str, value: object, code: str = "wrong_type") -> Problem:
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    kind = kinds.get(type(value), "null" if value is None else "no JSON value")
    return Problem(message=f"{path} must be {wanted}, it is {kind}", code=code, path=path)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def _refused(problems: list[Problem]) -> InvalidRequest:
    """Return one error for all problems; where upstream has a text for the first one, the message begins with it."""
    told = [problem.message for problem in problems if problem.code != _ENTRY]
    message = "; ".join(told[:_LISTED_PROBLEMS])
    if len(told) > _LISTED_PROBLEMS:
        message += f"; and {len(told) - _LISTED_PROBLEMS} more"
    return InvalidRequest(message, problems=problems)
