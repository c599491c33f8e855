"""Which errors of nodes mean that ComfyUI can use its GPU no more."""

import pytest

from comfyworker.comfyui.gpu_faults import find_gpu_fault
from comfyworker.comfyui.tracker import NodeFailure


def failure(exception_type: str, message: str) -> NodeFailure:
    """Return what ComfyUI tells of a node that raised."""
    return NodeFailure(node_id="5", class_type="KSampler", exception_type=exception_type, exception_message=message)


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        (
            "torch.AcceleratorError",
            "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in CUDA's documentation.",
        ),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered"),
        ("RuntimeError", "CUDA error: unspecified launch failure\n"),
        ("RuntimeError", "HIP error: the launch timed out and was terminated"),
    ],
)
def test_what_lasts_until_a_restart(exception_type: str, message: str) -> None:
    """Old and new classes of torch, CUDA and ROCm; the error has CUDA's words and may be tried again."""
    fault = find_gpu_fault(failure(exception_type, message))
    assert fault is not None
    assert (fault.code, fault.retryable) == ("comfyui_crashed", True)
    assert fault.message == f"node 5 (KSampler) broke ComfyUI's use of the GPU: {message.splitlines()[0]}"


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB."),
        ("torch.AcceleratorError", "CUDA error: out of memory"),
        ("torch.AcceleratorError", "CUDA error: no kernel image is available for execution on the device"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"),
        ("RuntimeError", "the prompt says CUDA error: device-side assert triggered"),
        ("ValueError", "CUDA error: device-side assert triggered"),
    ],
)
def test_what_does_not(exception_type: str, message: str) -> None:
    """Errors that would come again after a restart, and those whose text only looks so."""
    assert find_gpu_fault(failure(exception_type, message)) is None
