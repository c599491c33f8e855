"""What answers of all dialects share: an error in words, and the keys that no upstream has.

Each of these keys is left out where it would be empty:

- `texts`: `[{"node_id", "text"}]`, what nodes reported as text.
- `used`: what was drawn or chosen for the request, as `{"seed": 17}`.
- `warnings`: `[str]`, what went differently than asked although the job went on.
- `cold_start`: `{"total_s", "phases": [{"name", "begun_s", "ended_s"}]}`, how the worker started; only in the first
  answer after that.
- `details`: `[str]`, every problem of an error that holds several.
- `error_code`: the code of an error, for programs.
- `delivered`: `[{"filename", "type", "url"?}]`, the files of a failed job that did arrive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from pydantic import JsonValue

from comfyworker.errors import (
    ComfyUIUnavailable,
    InternalError,
    InvalidRequest,
    InvalidWorkflow,
    JobTimeout,
    NodeExecutionError,
    WorkerError,
)
from comfyworker.jobs import Artifact, JobError, JobResult, JobStatus


class ErrorKind(Enum):
    """What a client may do about an error: mend the request, give more time, try another worker, or nothing."""

    REQUEST = (InvalidRequest, InvalidWorkflow)
    EXECUTION = (NodeExecutionError,)
    TIMEOUT = (JobTimeout,)
    COMFYUI = (ComfyUIUnavailable,)
    OTHER = ()


def kind_of(error: JobError) -> ErrorKind:
    """Return what kind of error this is."""
    for kind in ErrorKind:
        if any(error.code == leaf.code for base in kind.value for leaf in _family(base)):
            return kind
    return ErrorKind.OTHER


def error_of(result: JobResult) -> JobError | None:
    """Return why a job is no success; None if it is one."""
    if result.error is None and result.status is not JobStatus.SUCCEEDED:
        return JobError(code=InternalError.code, message=f"the job ended as {result.status}")
    return result.error


def files_of(result: JobResult) -> tuple[Artifact, ...]:
    """Return the artifacts that are files."""
    return tuple(artifact for artifact in result.artifacts if artifact.text is None)


def delivered(artifact: Artifact) -> tuple[str, str]:
    """Return how an artifact was delivered, and as what: `base64` and the text, or its URL's type and the URL.

    Raises:
        InternalError: it was not delivered: no answer passes over a file that did not arrive.
    """
    if artifact.data is not None:
        return "base64", artifact.data
    if artifact.url is not None:
        return artifact.url_type.value, artifact.url
    raise InternalError(f"artifact '{artifact.name}' was not delivered")


def extra_keys(result: JobResult) -> dict[str, JsonValue]:
    """Return the keys that no upstream has and that both good and bad answers have."""
    extra: dict[str, JsonValue] = {}
    texts: list[JsonValue] = [
        {"node_id": artifact.node_id, "text": artifact.text}
        for artifact in result.artifacts
        if artifact.text is not None
    ]
    if texts:
        extra["texts"] = texts
    if result.used:
        extra["used"] = result.used
    if result.warnings:
        extra["warnings"] = list(result.warnings)
    if result.cold_start is not None:
        extra["cold_start"] = result.cold_start.model_dump(mode="json")
    return extra


def error_keys(error: JobError) -> dict[str, JsonValue]:
    """Return the keys that no upstream's error has."""
    details: list[JsonValue] = [*problem_texts(error)]
    return {"details": details, "error_code": error.code} if details else {"error_code": error.code}


def delivered_keys(result: JobResult) -> dict[str, JsonValue]:
    """Return what a failed job says of the files that did arrive; bytes are not sent for a job that came to nothing."""
    entries: list[JsonValue] = []
    for artifact in files_of(result):
        if artifact.failure is None and artifact.url is not None:
            entries.append({"filename": artifact.name, "type": artifact.url_type.value, "url": artifact.url})
        elif artifact.failure is None and artifact.data is not None:
            entries.append({"filename": artifact.name, "type": "base64"})
    return {"delivered": entries} if entries else {}


def problem_texts(error: JobError) -> list[str]:
    """Return each problem with its place; nothing where the error's message says it all."""
    texts = [_problem_text(problem) for problem in error.problems]
    return [] if texts == [error.message] else texts


def message_of(error: JobError) -> str:
    """Return an error's message with its hint."""
    if not error.hint:
        return error.message
    return (
        f"{error.message} {error.hint}" if error.message.endswith((".", "!", "?")) else f"{error.message}. {error.hint}"
    )


def _problem_text(problem: Mapping[str, JsonValue]) -> str:
    message, path = str(problem.get("message", "")), problem.get("path")
    is_placed = path is None or str(path) in message or problem.get("node_id") is not None
    return message if is_placed else f"{path}: {message}"


def _family(base: type[WorkerError]) -> Iterator[type[WorkerError]]:
    yield base
    for child in base.__subclasses__():
        yield from _family(child)
