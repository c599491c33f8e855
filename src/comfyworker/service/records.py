"""What the job service tells of a job: one frozen record, whatever API took it.

All times are seconds of Unix time.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from comfyworker.jobs import Artifact, JobRequest, JobResult, JobStatus, Progress


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Submission(_Record):
    """A job as an API hands it in."""

    request: JobRequest
    """Its `id` is the job's id for this owner."""
    api: str
    """Which API took it."""
    dialect: str
    """What its answer is rendered in."""
    owner: str = ""
    """Whose it is; nobody else finds it."""
    priority: int = 0
    """Higher ones begin first; among equals, the older one."""
    ttl_s: float | None = None
    """Seconds that it may wait before it begins; None takes the worker's."""
    idempotency_key: str | None = Field(default=None, repr=False)
    """The caller's own mark for this submission, unique for one owner of one API."""
    fingerprint: str | None = None
    """What tells whether two submissions ask for the same; None makes it of the request."""
    body: bytes | None = Field(default=None, repr=False)
    """What the API wants to read again later; it is stored as it is, so it must hold no secret."""
    meta: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """The API's own notes; no secret."""


class KeptArtifact(Artifact):
    """One output of a job that the service keeps the record of; `path` leads to the kept file."""

    asset_id: str = ""
    """By which the file is found among the assets."""
    hash: str | None = None
    """`blake3:<hex>` of the file; None for texts, and for what lies in object storage."""

    @property
    def is_file(self) -> bool:
        """Whether it is a file, wherever that lies, and not a text."""
        return self.text is None


class KeptResult(JobResult):
    """What came of a job, without the bytes of its artifacts."""

    artifacts: tuple[KeptArtifact, ...] = ()


class JobRecord(_Record):
    """One job as it stands."""

    owner: str
    id: str
    api: str
    dialect: str
    status: JobStatus
    priority: int = 0
    created_at: float
    started_at: float | None = None
    """When it began, the last time that it did."""
    completed_at: float | None = None
    expires_at: float | None = None
    """When its result goes, or went; None while it is not finished."""
    queue_position: int | None = None
    """How many jobs stand before it; None unless it waits."""
    attempts: int = 0
    """How often it has begun."""
    progress: Progress | None = None
    """The latest; None before it began."""
    outputs: tuple[KeptArtifact, ...] = ()
    """The files that are delivered so far."""
    result: KeptResult | None = None
    """What came of it; None until its end."""
    wants_inline: bool = False
    """Whether the client wants files as base64 in the answer, and not under URLs of the host."""
    meta: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """The API's own notes."""
    is_repeat: bool = False
    """Whether the submission that this answers came a second time."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over."""
        return self.status.is_terminal

    @property
    def queue_s(self) -> float | None:
        """Seconds that it waited until it began; None if it has not."""
        return None if self.started_at is None else max(self.started_at - self.created_at, 0.0)

    @property
    def execution_s(self) -> float | None:
        """Seconds from its beginning to its end; None if it has not had both."""
        if self.started_at is None or self.completed_at is None:
            return None
        return max(self.completed_at - self.started_at, 0.0)


class JobPage(_Record):
    """Some jobs of a longer list, newest first."""

    jobs: tuple[JobRecord, ...]
    next_cursor: str | None = None
    """Where the list goes on; None at its end."""


class Counts(_Record):
    """How many jobs there are."""

    queued: int
    running: int
    """Those being canceled included."""
    places: int
    """How many may run at the same time."""
    max_queued: int
    by_status: dict[JobStatus, int]
    """Of all jobs that are remembered."""
    ended: dict[JobStatus, int]
    """Of those that ended since the service began."""
    failed_by_code: dict[str, int]
    """Errors of those, by code."""
    retried: int
    """How many were asked for again since the service began."""
    oldest_queued_at: float | None
    is_draining: bool


class AssetRecord(_Record):
    """A file that an owner can name: uploaded, or a job's output."""

    id: str
    owner: str
    name: str
    """A label, never a path."""
    hash: str
    """`blake3:<hex>` of its bytes."""
    content_type: str
    size_bytes: int
    created_at: float
    expires_at: float | None = None
    """When it goes; None for the output of a job that is not over."""
    path: Path = Field(repr=False)
    """Where the file lies; never part of an answer."""
    job_id: str | None = None
    """Of the job that made it; None for an upload."""
    created_new: bool = True
    """Whether the owner had no asset with these bytes before; only told when it is made."""
