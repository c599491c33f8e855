"""The dialect `comfy-api-v2`: Comfy API v2, the official contract, as `comfy-sdk` speaks it.

Request: `{"workflow", "extra_data": {"api_key_comfy_org"}?, "metadata": {label: text}?}`, and beside `workflow` every
other key that `request.py` knows; an input may hold an asset (`workflow/assets.py`).

Answer: a job, `{"id", "status", "created_at", "completed_at", "outputs", "error", "metrics"}`; the host adds what only
it knows: links, progress, the place in the queue. Each output of `outputs` has `node_id`, `name`, `type`,
`content_type`, `size_bytes`, `id`, `hash`, `url`, `url_expires_at`, `job_id`.

Error: of a job `{"code", "message", "node_id", "class_type", "traceback"}`, and beside them `retryable` and
`problems`; of a request `{"error": {"code", "message", "details"?}}`.

It is spoken under `/api/v2` only, so it is no `response_format`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import JsonValue

from comfyworker.dialects._answer import delivered, error_of, extra_keys, message_of
from comfyworker.dialects._fields import Fields, refused, wrong_type
from comfyworker.dialects.names import COMFY_API_V2
from comfyworker.dialects.request import Words, parse_request
from comfyworker.errors import InvalidWorkflow, MissingModel, MissingNode, Problem, WorkerError
from comfyworker.jobs import Artifact, DeliveryMode, JobError, JobRequest, JobResult, Output, Progress

METADATA_INVALID: Final = "metadata_invalid"
INVALID_METADATA_FILTER: Final = "invalid_metadata_filter"
INVALID_CURSOR: Final = "invalid_cursor"
_CODES_OF_PROBLEMS = {METADATA_INVALID: 422, INVALID_METADATA_FILTER: 400, INVALID_CURSOR: 400}
"""Codes of this API that one problem has, and not a class of errors; with their HTTP status."""
_STATUSES = {"queue_full": 429}
"""HTTP statuses that this API has for codes of ours, where they are not the usual ones."""

_WORDS = Words(no_input="the request is no object: send {'workflow': …}")
_USUAL = Output(delivery=DeliveryMode.URL)
_NOT_OF_THE_JOB = ("extra_data", "metadata")
_EXTRA_DATA_KEYS = ("api_key_comfy_org",)
_MAX_LABELS = 16
_MAX_LABEL_CHARS = 256


class Whereabouts(NamedTuple):
    """Where the client finds an output."""

    asset_id: str
    url: str
    url_expires_at: float | None = None
    """In seconds of Unix time."""
    hash: str | None = None


class ComfyApiV2Dialect:
    """Parses and renders as Comfy API v2 has it."""

    name = COMFY_API_V2

    def parse(self, body: object, *, new_id: Callable[[], str]) -> JobRequest:
        """Return the job that a request asks for; assets in its workflow are left where they are.

        Args:
            body: The request as parsed JSON, of any shape.
            new_id: Gives an id for a request that brings none.

        Raises:
            InvalidRequest: with everything that is wrong with the request.
            InvalidWorkflow: the workflow is all that is wrong.
        """
        if not isinstance(body, Mapping):
            raise refused([wrong_type("the request", "an object", body)])
        if "input" in body or "payload" in body:
            return _with_urls(parse_request(body, new_id=new_id, words=_WORDS, usual=_USUAL))
        problems: list[Problem] = []
        extra = Fields(Fields(body, problems).mapping("extra_data") or {}, problems, "extra_data")
        key = extra.secret("api_key_comfy_org")
        if problems:
            raise refused(problems)
        given = {name: value for name, value in body.items() if name not in _NOT_OF_THE_JOB}
        request = parse_request({"input": given}, new_id=new_id, words=_WORDS, usual=_USUAL)
        warnings = (*request.warnings, *extra.unknown_keys(_EXTRA_DATA_KEYS, where="extra_data"))
        said = {"warnings": warnings} if key is None else {"warnings": warnings, "comfy_org_api_key": key}
        return _with_urls(request.model_copy(update=said))

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the job for a result, well or not.

        Raises:
            InternalError: an artifact was not delivered, and the job says nothing of it.
        """
        error = error_of(result)
        spent = result.timings
        queue_ms = None if spent.wait_s is None else round(spent.wait_s * 1000)
        execution_ms = None if spent.execute_s is None else round(spent.execute_s * 1000)
        return {
            "id": result.id,
            "status": result.status.value,
            "created_at": as_time(result.created_at),
            "completed_at": as_time(result.completed_at),
            "outputs": [_render_delivered(artifact) for artifact in result.artifacts if artifact.failure is None],
            "error": None if error is None else render_job_error(error),
            "metrics": {"queue_ms": queue_ms, "execution_ms": execution_ms},
            **render_notes(result),
        }


def read_labels(body: object) -> dict[str, str]:
    """Return the labels (`metadata`) that a request gives its job.

    Raises:
        InvalidRequest: they are no texts, too many or too long.
    """
    given = body.get("metadata") if isinstance(body, Mapping) else None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise refused([wrong_type("metadata", "an object of texts", given, METADATA_INVALID)])
    problems = [_label_problem(str(key), value) for key, value in given.items()]
    if len(given) > _MAX_LABELS:
        message = f"metadata has {len(given)} pairs, more than the {_MAX_LABELS} that a job may have"
        problems.append(Problem(message=message, code=METADATA_INVALID, path="metadata"))
    if any(problems):
        raise refused([problem for problem in problems if problem is not None])
    return {str(key): str(value) for key, value in given.items()}


def render_output(artifact: Artifact, found: Whereabouts, *, job_id: str) -> dict[str, JsonValue]:
    """Return one output of a job."""
    return {
        "node_id": artifact.node_id,
        "name": artifact.name,
        "type": artifact.kind.value,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size_bytes,
        "id": found.asset_id,
        "hash": found.hash,
        "url": found.url,
        "url_expires_at": as_time(found.url_expires_at),
        "job_id": job_id,
    }


def render_job_error(error: JobError) -> dict[str, JsonValue]:
    """Return why a job is no success; a traceback never leaves the worker."""
    problem = error.problems[0] if error.problems else {}
    rendered: dict[str, JsonValue] = {
        "code": error.code,
        "message": message_of(error),
        "node_id": _text(error.details.get("node_id")) or _text(problem.get("node_id")),
        "class_type": _text(error.details.get("class_type")) or _text(problem.get("class_type")),
        "traceback": None,
        "retryable": error.retryable,
    }
    if error.problems:
        rendered["problems"] = [*error.problems]
    return rendered


def render_progress(progress: Progress | None) -> dict[str, JsonValue] | None:
    """Return how far a job is."""
    return None if progress is None else progress.model_dump(mode="json")


def render_notes(result: JobResult) -> dict[str, JsonValue]:
    """Return what the contract has no place for: what was drawn for the job, and what went differently than asked."""
    return {key: value for key, value in extra_keys(result).items() if key != "texts"}


def render_error(error: WorkerError) -> tuple[int, dict[str, JsonValue]]:
    """Return the HTTP status and the envelope for a request that was refused."""
    code, status = error.code, _STATUSES.get(error.code, error.http_status)
    told = next((problem.code for problem in error.problems if problem.code in _CODES_OF_PROBLEMS), None)
    if told is not None:
        code, status = told, _CODES_OF_PROBLEMS[told]
    elif isinstance(error, MissingNode | MissingModel):
        code = InvalidWorkflow.code  # the contract's clients know no finer one
    details: dict[str, JsonValue] = {**error.details}
    if code != error.code and told is None:
        details["reason"] = error.code
    if error.hint:
        details["hint"] = error.hint
    if error.retryable:
        details["retryable"] = True
    if error.problems:
        details |= {"problems": [problem.to_dict() for problem in error.problems], **_node_errors(error)}
    envelope: dict[str, JsonValue] = {"code": code, "message": error.message}
    return status, {"error": {**envelope, "details": details} if details else envelope}


def as_time(seconds: float | None) -> str | None:
    """Return a moment in seconds of Unix time as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _with_urls(request: JobRequest) -> JobRequest:
    """Return `request` so that its files get URLs: this API's answers have no place for bytes."""
    if request.output.delivery not in (DeliveryMode.AUTO, DeliveryMode.BASE64):
        return request
    output = request.output.model_copy(update={"delivery": DeliveryMode.URL, "only_inline": False})
    return request.model_copy(update={"output": output})


def _label_problem(key: str, value: Any) -> Problem | None:  # noqa: ANN401 - JSON from outside
    path = f"metadata.{key[:_MAX_LABEL_CHARS]}"
    if not isinstance(value, str):
        return wrong_type(path, "text", value, METADATA_INVALID)
    if not key or len(key) > _MAX_LABEL_CHARS or len(value) > _MAX_LABEL_CHARS:
        message = f"{path} must have a name and a text of at most {_MAX_LABEL_CHARS} characters"
        return Problem(message=message, code=METADATA_INVALID, path=path)
    return None


def _render_delivered(artifact: Artifact) -> dict[str, JsonValue]:
    """Return an output as it was delivered, for hosts that keep no assets."""
    if artifact.text is not None:
        return {**render_output(artifact, Whereabouts("", ""), job_id=""), "text": artifact.text}
    how, what = delivered(artifact)
    return {
        **render_output(artifact, Whereabouts("", ""), job_id=""),
        "data_base64" if how == "base64" else "url": what,
    }


def _node_errors(error: WorkerError) -> dict[str, JsonValue]:
    """Return the problems by node, as the contract's example has them."""
    by_node: dict[str, list[JsonValue]] = {}
    for problem in error.problems:
        if problem.node_id is not None:
            entry: dict[str, JsonValue] = {
                "field": problem.input_name,
                "reason": problem.code,
                "message": problem.message,
            }
            by_node.setdefault(problem.node_id, []).append(entry)
    listed: dict[str, JsonValue] = {node_id: [*entries] for node_id, entries in by_node.items()}
    return {"node_errors": listed} if listed else {}


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None
