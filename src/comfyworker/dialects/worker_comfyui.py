"""The dialect `worker-comfyui`: what RunPod's worker-comfyui takes and answers.

Request: `{"input": {"workflow", "images": [{"name", "image"}]?, "comfy_org_api_key"?}}`, and every other shape that
`request.py` knows.

Answer: `{"images": [{"filename", "type": "base64" | "s3_url", "data"}]}`, where `data` is base64 or the URL; without
any, `"status": "success_no_images"` beside it. A file left with ComfyUI is a `comfyui_url`, which upstream lacks.
Upstream returns pictures only; here every file is an entry of `images`, in the same shape.

Error: `{"error": str, "details": [str]?}` in upstream's words where it has any; `details` lists every problem where
`error` does not say all.

The keys that upstream does not have are those of all dialects: see `_answer.py`.
"""

from __future__ import annotations

from pydantic import JsonValue

from comfyworker.dialects._answer import (
    delivered,
    delivered_keys,
    error_of,
    extra_keys,
    files_of,
    message_of,
    problem_texts,
)
from comfyworker.dialects._parsing import SharedParsing
from comfyworker.dialects.names import WORKER_COMFYUI
from comfyworker.dialects.request import Words
from comfyworker.jobs import JobError, JobResult

# Upstream's texts; clients compare them.
WORDS = Words(
    no_input="Please provide input",
    input_not_json="Invalid JSON format in input",
    no_workflow="Missing 'workflow' parameter",
    images="'images' must be a list of objects with 'name' and 'image' keys",
)
NO_IMAGES = "success_no_images"

_EXECUTION_CODES = frozenset({"node_execution_error", "out_of_memory"})


class WorkerComfyUIDialect(SharedParsing):
    """Parses and renders as worker-comfyui does."""

    name = WORKER_COMFYUI
    words = WORDS

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact was not delivered.
        """
        error = error_of(result)
        if error is None:
            return {**_render_files(result), **extra_keys(result)}
        return {**_render_error(error), **delivered_keys(result), **extra_keys(result)}


def _render_files(result: JobResult) -> dict[str, JsonValue]:
    images: list[JsonValue] = []
    for artifact in files_of(result):
        kind, data = delivered(artifact)
        images.append({"filename": artifact.name, "type": kind, "data": data})
    return {"images": images} if images else {"status": NO_IMAGES, "images": images}


def _render_error(error: JobError) -> dict[str, JsonValue]:
    details: list[JsonValue] = [*problem_texts(error)]
    message = _execution_text(error)
    if message is None:
        message = message_of(error)
    elif error.hint:
        details.append(error.hint)
    return {"error": message, **({"details": details} if details else {}), "error_code": error.code}


def _execution_text(error: JobError) -> str | None:
    """Return what upstream says when a node raised; None if that is not what happened."""
    node_id, class_type = error.details.get("node_id"), error.details.get("class_type")
    if error.code not in _EXECUTION_CODES or node_id is None:
        return None
    message = str(error.details.get("exception_message", error.message)).strip()
    return f"Workflow execution error: Node Type: {class_type}, Node ID: {node_id}, Message: {message}"
