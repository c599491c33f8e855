"""The dialect `flux`: what the Flux worker on RunPod takes and answers.

Request: `{"input": {"workflow", "prompt"?, "prompt_node_id"?, "seed"?, "seed_node_id"?, "width"?, "height"?,
"size_node_id"?}}`, and every other shape that `request.py` knows.

Answer: `{"status": "success", "images": [base64], "filenames": [str], "execution_time_seconds", "prompt_id"}`; every
file is in both lists, at the same place. Clients of this dialect read nothing but base64, so a bucket is used only for
requests that ask for it (`output.delivery`); `images` holds URLs then.

Error: `{"status": "error", "error_type": "validation" | "timeout" | "internal", "error", "execution_time_seconds"}`.

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
from comfyworker.dialects.names import FLUX
from comfyworker.jobs import JobResult, Output

_ERROR_TYPE = {
    ErrorKind.REQUEST: "validation",
    ErrorKind.EXECUTION: "internal",
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.COMFYUI: "internal",
    ErrorKind.OTHER: "internal",
}


class FluxDialect(SharedParsing):
    """Parses and renders as the Flux worker does."""

    name = FLUX
    usual_output = Output(only_inline=True)

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not.

        Raises:
            InternalError: an artifact was not delivered.
        """
        total_s = result.timings.total_s
        seconds = None if total_s is None else round(total_s, 3)
        error = error_of(result)
        if error is not None:
            return {
                "status": "error",
                "error_type": _ERROR_TYPE[kind_of(error)],
                "error": message_of(error),
                "execution_time_seconds": seconds,
                **error_keys(error),
                **delivered_keys(result),
                **extra_keys(result),
            }
        files = files_of(result)
        return {
            "status": "success",
            "images": [delivered(artifact)[1] for artifact in files],
            "filenames": [artifact.name for artifact in files],
            "execution_time_seconds": seconds,
            "prompt_id": result.prompt_id,
            **extra_keys(result),
        }
