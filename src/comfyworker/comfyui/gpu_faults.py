"""Which errors of nodes mean that ComfyUI can use its GPU no more, though it lives and answers.

Wire source: the CUDA runtime's documentation, "Error handling": after these errors "any further CUDA work will return
the same error" until the process is started anew. torch raises them as `torch.AcceleratorError` (since 2.8) or
RuntimeError, with CUDA's words behind `CUDA error: `, and AMD's behind `HIP error: `.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from comfyworker.comfyui.tracker import NodeFailure
from comfyworker.errors import ComfyUICrashed
from comfyworker.redaction import redact

_TYPES: Final = {"RuntimeError", "AcceleratorError"}
_BEGINNINGS: Final = ("CUDA error: ", "HIP error: ")
# Not all that CUDA has: the others say that a call was wrong (no kernel image, an invalid argument, a cuBLAS status),
# and would come again after a restart.
_LASTING: Final = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "device-side assert triggered",
    "hardware stack error",
    "invalid program counter",
    "misaligned address",
    "operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected during the execution",
    "unspecified launch failure",
)


class GpuBroken(ComfyUICrashed):
    """A node left ComfyUI's process without a GPU that works: every further job on it would fail."""


def find_gpu_fault(failure: NodeFailure) -> GpuBroken | None:
    """Return the error for a node after which ComfyUI must be started anew; None for all other errors.

    A node that raises a client's own text as a RuntimeError can cause a restart so, and no more than that.
    """
    if failure.exception_type.rpartition(".")[2] not in _TYPES:
        return None
    said = failure.exception_message.partition("\n")[0].strip()
    beginning = next((text for text in _BEGINNINGS if said.startswith(text)), None)
    if beginning is None or not said.removeprefix(beginning).startswith(_LASTING):
        return None
    details: dict[str, JsonValue] = {
        "node_id": failure.node_id,
        "class_type": failure.class_type,
        "exception_type": failure.exception_type,
        "exception_message": redact(said),
    }
    return GpuBroken(
        f"node {failure.node_id} ({failure.class_type}) broke ComfyUI's use of the GPU: {redact(said)}",
        hint="ComfyUI is started again; send the job again. Where it is this node each time, its inputs or its model "
        "do not fit; where it is any node, the GPU or its driver is at fault.",
        details=details,
    )
