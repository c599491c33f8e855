"""The dialect `pyworker`: what Vast.ai's ComfyUI PyWorker takes and answers.

Request: `{"input": {"request_id"?, "modifier" + "modifications" or "workflow_json"}, "expected_time"?}`, bare or as the
payload of Vast's envelope `{"auth_data", "session_id", "payload"}`, and every other shape that `request.py` knows.

Answer, good and bad: `{"id", "message", "status", "comfyui_response", "output", "timings"}`. An entry of `output` has
`filename`, `local_path`, `subfolder`, `type`, `node_id`, `output_type`, and `url`, or `data` with `mimetype`, or
`upload_error` where a job failed because the file did not arrive.
`local_path` is the file's name below ComfyUI's output folder: no answer tells the directories of a machine. What is
not known is null in `timings`.

The keys that upstream does not have are those of all dialects: see `_answer.py`.
"""

from __future__ import annotations

from pydantic import JsonValue

from comfyworker.dialects._answer import delivered, error_keys, error_of, extra_keys, files_of, message_of
from comfyworker.dialects._parsing import SharedParsing
from comfyworker.dialects.names import PYWORKER
from comfyworker.jobs import Artifact, JobResult, JobStatus

COMPLETED = "Processing complete."
"""Upstream's message for a job that went well."""
STATUS_WORDS = {
    JobStatus.QUEUED: "pending",
    JobStatus.RUNNING: "generating",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.CANCELING: "generating",
    JobStatus.CANCELED: "cancelled",
    JobStatus.FAILED: "failed",
    JobStatus.EXPIRED: "failed",
}


class PyWorkerDialect(SharedParsing):
    """Parses and renders as Vast's PyWorker does."""

    name = PYWORKER

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact was not delivered, and the job says nothing of it.
        """
        error = error_of(result)
        answer: dict[str, JsonValue] = {
            "id": result.id,
            "message": COMPLETED if error is None else message_of(error),
            "status": STATUS_WORDS[result.status] if error is None or result.status is JobStatus.CANCELED else "failed",
            "comfyui_response": _comfyui_response(result),
            "output": [_render_file(artifact) for artifact in files_of(result)],
            "timings": _render_timings(result),
        }
        return {**answer, **({} if error is None else error_keys(error)), **extra_keys(result)}


def _render_file(artifact: Artifact) -> dict[str, JsonValue]:
    entry: dict[str, JsonValue] = {
        "filename": artifact.name,
        "local_path": f"{artifact.subfolder}/{artifact.name}" if artifact.subfolder else artifact.name,
        "subfolder": artifact.subfolder,
        "type": artifact.folder_type,
        "node_id": artifact.node_id,
        "output_type": artifact.output_key,
    }
    if artifact.failure is not None:
        return {**entry, "upload_error": artifact.failure.message}
    kind, data = delivered(artifact)
    return {**entry, "data": data, "mimetype": artifact.content_type} if kind == "base64" else {**entry, "url": data}


def _comfyui_response(result: JobResult) -> dict[str, JsonValue]:
    """Return the outputs in the shape of ComfyUI's `/history`: `{prompt_id: {"outputs": …}}`.

    Made of what the artifacts tell: what nodes report beside may hold directories of the machine.
    """
    if result.prompt_id is None or error_of(result) is not None:
        return {}
    outputs: dict[str, dict[str, list[JsonValue]]] = {}
    for artifact in result.artifacts:
        reported: JsonValue = artifact.text
        if artifact.text is None:
            reported = {
                "filename": artifact.name,
                "subfolder": artifact.subfolder,
                "type": artifact.folder_type,
            }
        outputs.setdefault(artifact.node_id, {}).setdefault(artifact.output_key, []).append(reported)
    listed: dict[str, JsonValue] = {node: {**keys} for node, keys in outputs.items()}
    return {result.prompt_id: {"outputs": listed}}


def _render_timings(result: JobResult) -> dict[str, JsonValue]:
    """Return what was measured in whole milliseconds; the two moments are Unix time."""
    spent = result.timings
    after = [seconds for seconds in (spent.collect_s, spent.deliver_s) if seconds is not None]
    begun_ms, ended_ms = _ms(result.created_at), _ms(result.completed_at)
    return {
        "queued_at_ms": begun_ms,
        "preprocess_ms": _ms(spent.prepare_s),
        "generation_ms": _ms(spent.execute_s),
        "postprocess_ms": _ms(sum(after)) if after else None,
        "completed_at_ms": ended_ms,
        "total_ms": _ms(spent.total_s) if begun_ms is None or ended_ms is None else ended_ms - begun_ms,
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
