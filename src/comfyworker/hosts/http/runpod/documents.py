"""What RunPod-shaped requests and answers look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from comfyworker.hosts.http.documents import JobInput
from comfyworker.hosts.http.runpod.submission import MOST_MS

StatusWord = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class Policy(_Document):
    """How a job may be run."""

    execution_timeout_ms: float | None = Field(
        None, alias="executionTimeout", gt=0, le=MOST_MS, description="Milliseconds that the job may run."
    )
    ttl_ms: float | None = Field(
        None, alias="ttl", gt=0, le=MOST_MS, description="Milliseconds that the job may wait to begin."
    )
    is_low_priority: bool | None = Field(
        None, alias="lowPriority", description="Begin it after all jobs that do not say so."
    )


class S3Config(_Document):
    """Object storage, as RunPod's clients write it; `input.s3` goes before it, field by field."""

    access_id: str | None = Field(None, alias="accessId")
    access_secret: str | None = Field(None, alias="accessSecret")
    bucket_name: str | None = Field(None, alias="bucketName")
    endpoint_url: str | None = Field(None, alias="endpointUrl")


class RunRequest(_Document):
    """One job."""

    input: JobInput
    webhook: str | None = Field(None, description="URL that is told when the job has ended.")
    policy: Policy | None = None
    s3_config: S3Config | None = Field(None, alias="s3Config")


class StatusAnswer(BaseModel):
    """How a job stands, and what came of it."""

    id: str
    status: StatusWord
    delay_time_ms: int | None = Field(None, alias="delayTime", description="Milliseconds until it began.")
    execution_time_ms: int | None = Field(None, alias="executionTime", description="Milliseconds that it ran.")
    worker_id: str | None = Field(None, alias="workerId")
    output: JsonValue = Field(
        None, description="The answer in the dialect that was asked for; while the job runs, its `progress`."
    )
    error: str | None = Field(None, description="Why it failed; `output` may hold more of that.")


class Chunk(BaseModel):
    """One file of a job, as the answer of a job that had no other."""

    output: dict[str, JsonValue]


class StreamAnswer(BaseModel):
    """What has been finished since the last call."""

    id: str
    status: StatusWord
    stream: list[Chunk]
    error: str | None = None


class PurgeAnswer(BaseModel):
    """How many jobs were taken out of the queue."""

    removed: int
    status: Literal["completed"]


class ErrorAnswer(_Document):
    """Why a request was refused."""

    error: str
    error_code: str
    details: list[str] | None = None
