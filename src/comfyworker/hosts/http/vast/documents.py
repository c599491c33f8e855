"""What Vast-shaped requests and answers look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from comfyworker.hosts.http.documents import MOST_SECONDS, JobInput

StatusWord = Literal["pending", "generating", "completed", "failed", "cancelled"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class GenerateRequest(_Document):
    """One job; Vast's clients send it as `payload`, beside `auth_data` and `session_id`."""

    input: JobInput
    expected_time: float | None = Field(
        None, gt=0, le=MOST_SECONDS, description="Seconds that the job is thought to take."
    )


class WrappedRequest(_Document):
    """One job as Vast's clients send it."""

    payload: GenerateRequest
    auth_data: dict[str, JsonValue] | None = None
    session_id: str | None = None


class OutputFile(_Document):
    """One file."""

    filename: str
    local_path: str = Field(description="Its name below ComfyUI's output folder.")
    subfolder: str
    type: str
    node_id: str
    output_type: str
    url: str | None = None
    data: str | None = Field(None, description="Its bytes as base64.")
    mimetype: str | None = None
    upload_error: str | None = None


class Timings(_Document):
    """Milliseconds; the moments are Unix time. What is not known is null."""

    queued_at_ms: int | None = None
    preprocess_ms: int | None = None
    generation_ms: int | None = None
    postprocess_ms: int | None = None
    completed_at_ms: int | None = None
    total_ms: int | None = None


class ResultAnswer(_Document):
    """How a job stands, and what came of it."""

    id: str
    message: str
    status: StatusWord
    comfyui_response: dict[str, JsonValue]
    output: list[OutputFile]
    timings: Timings
    error_code: str | None = None
    details: list[str] | None = None


class QueueInfo(BaseModel):
    """How much there is to do."""

    preprocess_queue_size: int = Field(description="Jobs that wait.")
    generation_queue_size: int = Field(description="Jobs that run, deliveries included.")
    postprocess_queue_size: int = Field(description="Always 0: nothing waits between a job's run and its delivery.")
    max_queue_size: int = Field(description="Jobs that may wait before more are refused.")
