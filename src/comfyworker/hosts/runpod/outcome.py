"""What the SDK is handed for a job: the dialect's answer, with `error` as text at its top if the job failed.

Wire source: RunPod's SDK, `run_job`: it takes `error` out of the returned object, and the platform marks the job
FAILED; what is left is the job's `output`.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from comfyworker.delivery import iter_json
from comfyworker.dialects import Dialect
from comfyworker.errors import AnswerTooLarge, WorkerError
from comfyworker.jobs import JobError, JobResult, JobStatus

_ERROR_CODE: Final = "error_code"  # answers of all dialects have it where a job came to nothing
_MOST_PROBLEMS: Final = 20
_MOST_CHARS: Final = 4000


class Answer(dict[str, JsonValue]):
    """An answer that does not show what is in it: the SDK writes every answer into its log, pictures included."""

    def __repr__(self) -> str:
        return f"<answer with {', '.join(self) or 'nothing'}>"

    __str__ = __repr__

    @property
    def is_failed(self) -> bool:
        """Whether the platform will mark the job as FAILED."""
        return bool(self.get("error"))


def json_bytes(value: JsonValue) -> int:
    """Return how many bytes a value has as JSON."""
    return sum(len(piece) for piece in iter_json(value))


def make_answer(dialect: Dialect, result: JobResult, *, limit_bytes: int) -> Answer:
    """Return the answer for a job that has ended; one that would be too large says so instead."""
    answer = _rendered(dialect, result)
    size_bytes = json_bytes(answer)
    if size_bytes <= limit_bytes:
        return answer
    error = result.error or JobError.of(_too_large(size_bytes, limit_bytes))
    bare = {"status": JobStatus.FAILED, "error": _cut(error), "artifacts": (), "used": {}, "warnings": ()}
    return _rendered(dialect, result.model_copy(update=bare))


def _rendered(dialect: Dialect, result: JobResult) -> Answer:
    try:
        rendered = dialect.render(result)
    except WorkerError as error:
        result = result.model_copy(update={"status": JobStatus.FAILED, "error": JobError.of(error)})
        rendered = dialect.render(result)
    if result.error is None and _ERROR_CODE not in rendered:
        return Answer(rendered)
    told = rendered.get("error") or rendered.get("message") or (result.error.message if result.error else "")
    return Answer({**rendered, "error": str(told or "the job failed")})


def _cut(error: JobError) -> JobError:
    """Return an error that fits into any answer: hundreds of problems are told by the first of them."""
    left_out = len(error.problems) - _MOST_PROBLEMS
    hint = (error.hint or "")[:_MOST_CHARS]
    if left_out > 0:
        hint = f"{hint} {left_out} more problems are left out here.".strip()
    problems = tuple(
        {key: value for key, value in problem.items() if key in {"message", "code", "path", "node_id"}}
        for problem in error.problems[:_MOST_PROBLEMS]
    )
    cut = tuple({key: str(value)[:_MOST_CHARS] for key, value in problem.items()} for problem in problems)
    short: dict[str, object] = {"message": error.message[:_MOST_CHARS], "hint": hint or None, "problems": cut}
    if json_bytes(error.details) > _MOST_CHARS:
        short["details"] = {}
    return error.model_copy(update=short)


def _too_large(size_bytes: int, limit_bytes: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answer would have {size_bytes / 1e6:.1f} MB, more than the {limit_bytes / 1e6:.1f} MB that RunPod takes",
        hint="Let the workflow save long texts as files, and have files brought to object storage.",
        details={"answer_bytes": size_bytes, "limit_bytes": limit_bytes},
    )
