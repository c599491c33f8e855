"""The dialect `urls`: what the config.yml worker on RunPod takes and answers, with URLs instead of bytes.

Request: `{"input": {"workflow", "overrides": [{"node_id", "field", "value"}]?, "timeout"?}}`, and every other shape
that `request.py` knows.

Answer: `{"status": "success", "images": [{"url", "filename", "type", "node_id"}]}`; type is `s3_url`, or `comfyui_url`
for ComfyUI's own `/view` where there is no bucket.

Error: `{"status": "validation_error" | "timeout" | "api_error" | "error", "error": str}`.

The keys that upstream does not have are those of all dialects: see `_answer.py`.
"""

from __future__ import annotations

from pydantic import JsonValue

from comfyworker.dialects._answer import ErrorKind, error_keys, error_of, extra_keys, files_of, kind_of, message_of
from comfyworker.dialects._parsing import SharedParsing
from comfyworker.dialects.names import URLS
from comfyworker.errors import InternalError
from comfyworker.jobs import Artifact, JobResult

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
    wants_urls = True

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact has no URL.
        """
        error = error_of(result)
        if error is not None:
            return {
                "status": _STATUS[kind_of(error)],
                "error": message_of(error),
                **error_keys(error),
                **extra_keys(result),
            }
        images: list[JsonValue] = [_render_file(artifact) for artifact in files_of(result)]
        return {"status": "success", "images": images, **extra_keys(result)}


def _render_file(artifact: Artifact) -> dict[str, JsonValue]:
    url = artifact.url or artifact.comfyui_url
    if url is None:
        raise InternalError(f"artifact '{artifact.name}' was delivered to no URL")
    url_type = "comfyui_url" if artifact.url is None else "s3_url"
    return {"url": url, "filename": artifact.name, "type": url_type, "node_id": artifact.node_id}
