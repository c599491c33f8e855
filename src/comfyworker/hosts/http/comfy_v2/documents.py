"""What Comfy API v2's requests and answers look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from comfyworker.hosts.http.comfy_v2.multipart import HASH, MEDIA_TYPE
from comfyworker.hosts.http.documents import JobInput
from comfyworker.jobs import ArtifactKind, ColdStart, JobStatus

_ONE_LINE = "^[ -~]*$"


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class ExtraData(_Document):
    """What goes to ComfyUI beside the workflow."""

    api_key_comfy_org: str | None = Field(None, description="For ComfyUI's API nodes.")


class JobSubmission(JobInput):
    """One job: a workflow, and beside it whatever else the worker understands."""

    extra_data: ExtraData | None = None
    metadata: dict[str, str] | None = Field(None, description="Labels: up to 16 texts, by which jobs are listed.")


class JobLinks(BaseModel):
    """Where to go on; each is relative to the host."""

    self: str
    events: str
    cancel: str


class JobProgress(BaseModel):
    """How far a job is."""

    value: float = Field(ge=0, le=1, description="Over the whole job, weighted by nodes and sampler steps.")
    nodes_done: int
    nodes_total: int
    current_node: str | None = None
    current_node_class: str | None = None
    step: int | None = None
    steps: int | None = None
    message: str | None = None


class JobOutput(BaseModel):
    """One output of a job; it is an asset."""

    node_id: str
    name: str
    type: ArtifactKind
    content_type: str
    size_bytes: int
    id: str
    hash: str | None
    url: str
    url_expires_at: AwareDatetime | None
    job_id: str


class JobFailure(_Document):
    """Why a job is no success."""

    code: str
    message: str
    node_id: str | None = None
    class_type: str | None = None
    traceback: None = None
    retryable: bool
    problems: list[dict[str, JsonValue]] | None = None


class JobSummary(BaseModel):
    """A job as lists have it."""

    id: str
    status: JobStatus
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    expires_at: AwareDatetime = Field(description="When its result goes; while it runs, the earliest that it can.")
    metadata: dict[str, str]
    urls: JobLinks


class ListedJob(JobSummary):
    """One entry of a list."""

    create_time: AwareDatetime
    update_time: AwareDatetime


class JobDocument(JobSummary):
    """One job as it stands."""

    queue_position: int | None
    progress: JobProgress | None
    outputs: list[JobOutput] = Field(description="Those that are ready so far.")
    error: JobFailure | None
    metrics: dict[str, int | None] = Field(examples=[{"queue_ms": 12, "execution_ms": 4200}])
    used: dict[str, JsonValue] | None = Field(None, description="What was drawn or chosen, as a seed.")
    warnings: list[str] | None = None
    cold_start: ColdStart | None = Field(None, description="How the worker started; only the first job after that.")


class JobList(BaseModel):
    """Some jobs, newest first."""

    jobs: list[ListedJob]
    next_cursor: str | None = Field(None, description="Not there on the last page.")


class JobWorkflow(BaseModel):
    """The workflow of a job, as it was submitted."""

    workflow: dict[str, JsonValue]
    format: Literal["api", "save"]


class AssetDocument(BaseModel):
    """A file: uploaded, or a job's output."""

    id: str
    hash: str | None = Field(description="`blake3:` and 64 hexadecimal digits.")
    size_bytes: int
    content_type: str
    file_path: str
    created_at: AwareDatetime
    url: str
    url_expires_at: AwareDatetime | None
    expires_at: AwareDatetime | None
    job_id: str | None
    created_new: bool | None = Field(None, description="Whether the bytes were new; only told when it is made.")


class FromHash(_Document):
    """Bytes that are here already."""

    hash: str = Field(pattern=HASH)
    file_path: str = Field("", max_length=1024, pattern=_ONE_LINE)


class AssetUpload(BaseModel):
    """A file and what it is; what is left out or empty goes by the file's part of the form."""

    file_path: str = Field("", max_length=1024, pattern=_ONE_LINE)
    content_type: str = Field("", pattern=f"^$|{MEDIA_TYPE}")
    expected_hash: str = Field("", pattern=f"^$|{HASH}")
    file: bytes = Field(json_schema_extra={"format": "binary"})


class Refusal(BaseModel):
    """Why a request was refused."""

    code: str
    message: str
    details: dict[str, Any] | None = None  # Any: each code has its own


class ErrorEnvelope(BaseModel):
    """A request that was refused."""

    error: Refusal
