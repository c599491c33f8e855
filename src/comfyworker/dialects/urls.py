"""The dialect `urls`: what the config.yml worker on RunPod takes and answers, with URLs instead of bytes.

Request: `{"input": {"workflow", "overrides": [{"node_id", "field", "value"}]?, "timeout"?}}`, and every other shape
that `request.py` knows.

Answer: `{"status": "success", "images": [{"url", "filename", "type", "node_id"}]}`; type is `s3_url`, or `comfyui_url`
for ComfyUI's own `/view` where there is no bucket. Who asks for base64 gets `data` instead of `url`, and type `base64`.

Error: `{"status": "validation_error" | "timeout" | "api_error" | "error", "error": str}`.

The keys that upstream does not have are those of all dialects: see `_answer.py`.
"""

from __future__ import annotations

from pydantic import JsonValue

from comfyworker.dialects._answer import (
    ErrorKind,
    delivered,
    delivered_keys,
    error_keys,
    error_of,
    extra_keys,
    files_of,
    kind_of,
    message_of,
)
from comfyworker.dialects._parsing import SharedParsing
from comfyworker.dialects.names import URLS
from comfyworker.jobs import Artifact, DeliveryMode, JobResult, Output

_STATUS = {
    ErrorKind.REQUEST: "validation_error",
    ErrorKind.EXECUTION: "error",
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.COMFYUI: "api_error",
    ErrorKind.OTHER: "error",
}


class UrlsDialect(SharedParsing):
    """Parses and renders as the config.yml worker does."""

    name = URLS
    usual_output = Output(without_bucket=DeliveryMode.URL)

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact was not delivered.
        """
        error = error_of(result)
        if error is not None:
            return {
                "status": _STATUS[kind_of(error)],
                "error": message_of(error),
                **error_keys(error),
                **delivered_keys(result),
                **extra_keys(result),
            }
        images: list[JsonValue] = [_render_file(artifact) for artifact in files_of(result)]
        return {"status": "success", "images": images, **extra_keys(result)}


def _render_file(artifact: Artifact) -> dict[str, JsonValue]:
    kind, data = delivered(artifact)
    return {
        "data" if kind == "base64" else "url": data,
        "filename": artifact.name,
        "type": kind,
        "node_id": artifact.node_id,
    }
