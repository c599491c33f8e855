"""Every failure that leaves the worker.

    WorkerError
    ├── InvalidRequest
    │   └── MissingAsset
    ├── InvalidWorkflow
    │   ├── WorkflowFormatUI
    │   ├── MissingNode
    │   └── MissingModel
    ├── NodeExecutionError
    │   └── OutOfMemory
    ├── JobTimeout
    ├── JobCanceled
    ├── ComfyUIUnavailable
    │   ├── ComfyUINotFound
    │   ├── ComfyUIUnreachable
    │   └── ComfyUICrashed
    ├── DeliveryFailed
    │   └── AnswerTooLarge
    ├── InsufficientStorage
    ├── QueueFull
    │   └── TooBusy
    ├── WorkerRestarted
    ├── NotFound
    │   ├── BlobNotFound
    │   └── SessionEnded
    ├── IdempotencyKeyReused
    ├── HashMismatch
    ├── RequestTooLarge
    │   └── AssetTooLarge
    ├── Unauthorized
    ├── Forbidden
    ├── InvalidSettings
    │   └── InvalidConfig
    ├── InstallFailed
    ├── ProvisioningFailed
    │   ├── DownloadFailed
    │   └── NodeInstallFailed
    └── InternalError

A class exists for each thing that a caller does differently, not for each place that raises.
`code` is contract: clients compare it, so it is never renamed. A message says what and where, a hint what to do now;
neither holds a path, a traceback, a token or a presigned URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue


class Problem(BaseModel):
    """One thing that is wrong with a request: where it is, what there is instead, and what would be right."""

    model_config = ConfigDict(frozen=True)

    message: str
    """What is wrong, in one sentence that names the place."""
    code: str | None = None
    """What sort of problem, for programs: `missing_model`, `unknown_input`, `value_out_of_range`, …"""
    path: str | None = None
    """Where in the request, as `workflow.6.inputs.text` or `images[1].image`."""
    node_id: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    received: JsonValue = None
    """What was sent there, cut at a sensible length."""
    choices: tuple[str, ...] = ()
    """What would be accepted, nearest first, cut at a sensible length."""
    suggestion: str | None = None
    """The nearest accepted spelling."""

    def to_dict(self) -> dict[str, JsonValue]:
        """Return the fields that are set, as plain JSON."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


class WorkerError(Exception):
    """A failure that is an answer: it says what was wrong, where, and what to do about it."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: bool = False
    """Whether the same request may succeed later without being changed."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        problems: Sequence[Problem] = (),
        details: Mapping[str, JsonValue] | None = None,
        retryable: bool | None = None,
    ) -> None:
        """Keep what the answer will say.

        Args:
            message: What went wrong and where, in one sentence.
            hint: What the caller can do now.
            problems: Each single thing that is wrong, when one message holds several.
            details: More facts for programs to read, as plain JSON.
            retryable: Whether the same request may succeed later; None takes what the class says.
        """
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)
        self.details: dict[str, JsonValue] = dict(details or {})
        if retryable is not None:
            self.retryable = retryable

    def to_dict(self) -> dict[str, JsonValue]:
        """Return the error as plain JSON, the shape that every host and dialect starts from."""
        answer: dict[str, JsonValue] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.hint:
            answer["hint"] = self.hint
        if self.problems:
            answer["problems"] = [problem.to_dict() for problem in self.problems]
        if self.details:
            answer["details"] = self.details
        return answer


class InvalidRequest(WorkerError):
    """The request is not of the right shape."""

    code = "invalid_request"
    http_status = 400


class MissingAsset(InvalidRequest):
    """The workflow names an input file that was neither sent nor is in ComfyUI's input folder."""

    code = "missing_asset"
    http_status = 422


class InvalidWorkflow(WorkerError):
    """The workflow cannot run on this ComfyUI; `problems` lists everything that is wrong with it."""

    code = "invalid_workflow"
    http_status = 422


class WorkflowFormatUI(InvalidWorkflow):
    """The workflow is in the GUI format, which ComfyUI's API does not take."""

    code = "workflow_format_ui"


class MissingNode(InvalidWorkflow):
    """The workflow uses node classes that this ComfyUI does not have."""

    code = "missing_node"


class MissingModel(InvalidWorkflow):
    """The workflow names model files that this ComfyUI does not have."""

    code = "missing_model"


class NodeExecutionError(WorkerError):
    """A node raised while it ran."""

    code = "node_execution_error"
    http_status = 422


class OutOfMemory(NodeExecutionError):
    """A node needed more memory than there is."""

    code = "out_of_memory"


class JobTimeout(WorkerError):
    """The job was not finished by its deadline and was stopped."""

    code = "job_timeout"
    http_status = 504


class JobCanceled(WorkerError):
    """Somebody asked for the job to be stopped, and it was."""

    code = "job_canceled"
    http_status = 499


class ComfyUIUnavailable(WorkerError):
    """No ComfyUI could take the job."""

    code = "comfyui_unavailable"
    http_status = 503
    retryable = True


class ComfyUINotFound(ComfyUIUnavailable):
    """There is no ComfyUI to start, neither where the settings say nor in the known places."""

    code = "comfyui_not_found"
    retryable = False


class ComfyUIUnreachable(ComfyUIUnavailable):
    """ComfyUI does not answer, or answers what no ComfyUI would."""

    code = "comfyui_unreachable"
    http_status = 502


class ComfyUICrashed(ComfyUIUnavailable):
    """ComfyUI ended while the job was on it."""

    code = "comfyui_crashed"
    http_status = 502


class DeliveryFailed(WorkerError):
    """The job ran, but not all of its artifacts could be brought to where they belong."""

    code = "delivery_failed"
    http_status = 502


class AnswerTooLarge(DeliveryFailed):
    """The job ran, but its artifacts do not fit into an answer that the platform takes."""

    code = "answer_too_large"
    http_status = 422


class InsufficientStorage(WorkerError):
    """A disk that the job must write to is full."""

    code = "insufficient_storage"
    http_status = 507
    retryable = True


class QueueFull(WorkerError):
    """As many jobs wait as may, or the server is shutting down; `details.retry_after_s` says when to come again."""

    code = "queue_full"
    http_status = 503
    retryable = True


class TooBusy(QueueFull):
    """The work that is under way would keep the job waiting for too long; another worker may not, or this one later."""

    code = "too_busy"
    http_status = 429


class WorkerRestarted(WorkerError):
    """The worker was started anew while it had the job, and the job could not be taken up again."""

    code = "worker_restarted"
    http_status = 503
    retryable = True


class NotFound(WorkerError):
    """There is nothing of this name, or it is somebody else's, or its time is over."""

    code = "not_found"
    http_status = 404


class BlobNotFound(NotFound):
    """No file with this hash was uploaded."""

    code = "blob_not_found"


class SessionEnded(NotFound):
    """The session that the request names has ended, or never was on this worker."""

    code = "session_ended"
    http_status = 410


class IdempotencyKeyReused(WorkerError):
    """This idempotency key or id belongs to another request already."""

    code = "idempotency_key_reuse"
    http_status = 422


class HashMismatch(WorkerError):
    """The bytes that came do not have the hash that was announced."""

    code = "hash_mismatch"
    http_status = 409


class RequestTooLarge(WorkerError):
    """The request's body is larger than this server takes."""

    code = "request_too_large"
    http_status = 413


class AssetTooLarge(RequestTooLarge):
    """The uploaded file is larger than this server takes."""

    code = "asset_too_large"


class Unauthorized(WorkerError):
    """The request has no API key, or one that is not known here."""

    code = "unauthorized"
    http_status = 401


class Forbidden(WorkerError):
    """Whoever asks may not do this."""

    code = "forbidden"
    http_status = 403


class InvalidSettings(WorkerError):
    """The worker is configured wrongly; `problems` names every variable."""

    code = "invalid_settings"


class InvalidConfig(InvalidSettings):
    """The config.yml is wrong; `problems` names every place with its line."""

    code = "invalid_config"


class InstallFailed(WorkerError):
    """A ComfyUI could not be installed."""

    code = "install_failed"


class ProvisioningFailed(WorkerError):
    """Something that config.yml asks for could not be made ready; `problems` names each item."""

    code = "provisioning_failed"
    http_status = 503


class DownloadFailed(ProvisioningFailed):
    """A model could not be fetched, or is not what it should be."""

    code = "download_failed"


class NodeInstallFailed(ProvisioningFailed):
    """A custom node could not be installed, or does not load."""

    code = "node_install_failed"


class InternalError(WorkerError):
    """A fault in the worker itself; the log has the traceback."""

    code = "internal_error"


def broken() -> InternalError:
    """Return the error for a fault of the worker's own, of which nothing but that is told."""
    return InternalError("a fault in the worker itself", hint="The worker's log has the cause.")
