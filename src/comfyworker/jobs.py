"""The vocabulary of a job: what is asked, how far it is, what came of it.

The terms are those of Comfy API v2 (job status, progress, output types, error codes); dialects translate.
All records are frozen: a change makes a new record.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SecretStr

from comfyworker.errors import WorkerError

Graph = dict[str, dict[str, Any]]  # Any: a node's inputs are whatever its class takes
"""A workflow in API format: node id → `{"class_type", "inputs", "_meta"?}`."""

RANDOM_INT: Literal["__RANDOM_INT__"] = "__RANDOM_INT__"
"""A value that stands for a random integer, anywhere in a workflow's inputs."""


def _id_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NodeId = Annotated[str, BeforeValidator(_id_as_text)]
"""A node's id in the workflow; a number is taken as its text."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class JobStatus(StrEnum):
    """Where a job stands, in Comfy API v2's words."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELING = "canceling"
    CANCELED = "canceled"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether the job will not change any more."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.CANCELED, JobStatus.FAILED, JobStatus.EXPIRED})


class ArtifactKind(StrEnum):
    """What an artifact is, in Comfy API v2's words for an output's `type`."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    LATENT = "latent"
    FILE = "file"
    """Anything else, 3D models included."""


class InputFile(_Record):
    """A file that came with the request and that the workflow names."""

    name: str
    """The name by which the workflow calls it; a label, never a path on our disk."""
    data: str = Field(default="", repr=False)
    """Its bytes as base64, bare or as a data URI; or the http(s) URL where they are."""
    path: Path | None = Field(default=None, repr=False)
    """Where it lies on our disk, for a file that the host has taken in before; then `data` says nothing."""


class ModelOffer(_Record):
    """A model that the request says where to fetch, should ComfyUI lack it."""

    url: str = Field(repr=False)
    destination: str
    """A folder below ComfyUI's models folder, as `loras/wan`; resolved."""
    filename: str
    """Its name there."""
    sha256: str | None = None
    """What its content must have, in 64 hexadecimal digits."""
    size_bytes: int | None = None


class Override(_Record):
    """One value for one field of one node, which is named by its id or by its title."""

    node_id: NodeId | None = None
    title: str | None = None
    """The node's `_meta.title`; an id is understood, too, if no node has that title."""
    field: str
    """A dot path into the node: `inputs.text`, or `text` for short; list indexes are numbers."""
    value: JsonValue


class Shortcuts(_Record):
    """What most workflows have, set without knowing the workflow; None leaves it as it is.

    Without an id the usual node is taken ("6", "25", "27") if it has such an input, else the only one that can be
    meant.
    """

    prompt: str | None = Field(default=None, repr=False)
    prompt_node_id: NodeId | None = None
    seed: int | Literal["__RANDOM_INT__"] | None = None
    """-1 draws one."""
    seed_node_id: NodeId | None = None
    width: int | None = None
    height: int | None = None
    size_node_id: NodeId | None = None
    steps: int | None = None


class DeliveryMode(StrEnum):
    """How artifacts reach the client."""

    AUTO = "auto"
    """Object storage where it is configured, else as `Output.without_bucket` says."""
    BASE64 = "base64"
    """Inside the answer."""
    S3 = "s3"
    """In object storage, of whatever kind."""
    URL = "url"
    """Where they are, with a URL of the worker's own or of ComfyUI."""


class PictureFormat(StrEnum):
    """What still pictures can be made into before they are delivered."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


class Output(_Record):
    """How a job wants its artifacts."""

    delivery: DeliveryMode = DeliveryMode.AUTO
    without_bucket: Literal[DeliveryMode.BASE64, DeliveryMode.URL] = DeliveryMode.BASE64
    """What `auto` means where no object storage is configured."""
    only_inline: bool = False
    """Whether the client can read nothing but base64, so that `auto` is base64 even beside a bucket."""
    format: PictureFormat | None = None
    """None leaves pictures as the workflow made them."""
    quality: int | None = None
    """1..100, for formats that lose something; None takes the format's usual one."""
    strip_metadata: bool | None = None
    """Take the workflow and all else out of pictures; None takes the worker's setting."""
    prefix: str | None = None
    """What every object's key begins with, instead of the worker's setting."""


class UrlType(StrEnum):
    """Whose URL an artifact has, in the words that clients know."""

    S3_URL = "s3_url"
    """Of object storage, of whatever kind."""
    COMFYUI_URL = "comfyui_url"
    """Of ComfyUI's `/view`, or of the worker itself."""


class StoreOptions(_Record):
    """Object storage that a request brings; what is None comes from the worker's settings, field by field."""

    endpoint_url: str | None = Field(default=None, repr=False)
    bucket: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    region: str | None = None
    connect_timeout_s: float | None = None
    attempts: int | None = None


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

    STARTED = "started"
    PROGRESS = "progress"
    ARTIFACT = "artifact"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_EVENTS = frozenset({WebhookEvent.COMPLETED, WebhookEvent.FAILED, WebhookEvent.CANCELLED})
"""What a webhook is told of if it does not say."""


class WebhookOptions(_Record):
    """Who wants to hear of a job; what is None comes from the worker's settings."""

    url: str | None = Field(default=None, repr=False)
    extra_params: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """The caller's own, sent back with every event."""
    secret: SecretStr | None = None
    """Signs every event; empty means that none is signed, whatever the worker's settings say."""
    events: frozenset[WebhookEvent] = FINAL_EVENTS
    timeout_s: float | None = None
    """Seconds that one attempt may take."""


class JobRequest(_Record):
    """One job, whatever dialect it was asked in.

    Either `workflow` or `gui_workflow` says what runs, or `modifier` does; the modifier `RawWorkflow` takes a workflow
    beside it. Upon that come the overrides, then the shortcuts.
    """

    id: str
    """The caller's id, or one that the host made; a key, never a path."""
    workflow: Graph | None = Field(default=None, repr=False)
    gui_workflow: dict[str, JsonValue] | None = Field(default=None, repr=False)
    """The workflow as ComfyUI's page saves it, to be converted with the help of ComfyUI's classes."""
    modifier: str | None = None
    modifications: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """The modifier's parameters, by name."""
    overrides: tuple[Override, ...] = Field(default=(), repr=False)
    shortcuts: Shortcuts | None = None
    files: tuple[InputFile, ...] = ()
    models: tuple[ModelOffer, ...] = ()
    """Where models are that the workflow names; fetched only if they are missing, and if the worker does that."""
    timeout_s: float | None = None
    """The job's own deadline in seconds, in which waiting for models does not count; None takes the worker's."""
    given_up_after_s: float | None = None
    """Seconds from its beginning after which its platform has given it up, whatever it waited for; None is never."""
    expected_time_s: float | None = None
    """Seconds that the caller thinks the job will take; platforms reckon its load by it."""
    comfy_org_api_key: SecretStr | None = None
    """The key for ComfyUI's API nodes; wins over the worker's own."""
    output: Output = Output()
    store: StoreOptions | None = None
    """Object storage of the request's own; None takes the worker's."""
    webhook: WebhookOptions | None = None
    """None means that only the worker's own webhook is told."""
    warnings: tuple[str, ...] = ()
    """What the dialect noticed: keys that nobody knows, values that were put right."""


class Progress(_Record):
    """How far a job is; each snapshot is complete in itself, and `value` never falls."""

    value: float = 0.0
    """0..1 over the whole job, weighted by nodes and sampler steps."""
    nodes_done: int = 0
    nodes_total: int = 0
    current_node: str | None = None
    current_node_class: str | None = None
    step: int | None = None
    """The step that the current node has reached, where it counts any."""
    steps: int | None = None
    message: str | None = None
    """The stage, for people."""


class DeliveryFault(_Record):
    """Why one artifact did not arrive; may be shown as it is."""

    message: str
    """A sentence that names the file."""
    hint: str | None = None
    may_pass: bool = False
    """Whether the same may succeed later: the store is down, not the key wrong."""


class Artifact(_Record):
    """One output of a job, as it is delivered."""

    name: str
    """The file's name, without folders."""
    kind: ArtifactKind
    node_id: str
    output_key: str
    """The key under which the node reported it: `images`, `gifs`, `text`, …"""
    content_type: str
    size_bytes: int
    subfolder: str = ""
    folder_type: str = "output"
    """ComfyUI's `type`: output or temp; empty for text, which is no file."""
    data: str | None = Field(default=None, repr=False)
    """The bytes as base64, where they are delivered inline."""
    text: str | None = None
    """The text itself, where a node reported text and no file."""
    url: str | None = Field(default=None, repr=False)
    """Where the client finds the file, if it is not in the answer."""
    url_type: UrlType = UrlType.S3_URL
    """Whose URL that is."""
    comfyui_url: str | None = None
    """Where ComfyUI itself serves the file, as long as it is left in ComfyUI's folders; not what the client gets."""
    path: Path | None = Field(default=None, repr=False)
    """Where the file lies on our disk while the job has it; never part of an answer."""
    failure: DeliveryFault | None = None
    """Why it did not arrive; None if it did."""


class Timings(_Record):
    """Seconds that each stage took; None for a stage that was not reached."""

    prepare_s: float | None = None
    wait_s: float | None = None
    """Waited for ComfyUI to start, for models, for a place in ComfyUI's queue, and there until it began."""
    execute_s: float | None = None
    """From ComfyUI's beginning to its end."""
    collect_s: float | None = None
    deliver_s: float | None = None
    total_s: float | None = None


class StartPhase(_Record):
    """One phase of a worker's start; phases may overlap."""

    name: str
    begun_s: float
    """Seconds after the worker's process was started."""
    ended_s: float
    """Seconds after the worker's process was started."""


class ColdStart(_Record):
    """How a worker started: what took how long, and beside what."""

    total_s: float
    """Seconds from the start of the worker's process until it was ready."""
    phases: tuple[StartPhase, ...]
    """In the order in which they began."""


class JobError(_Record):
    """Why a job failed: `WorkerError.to_dict()` as a record."""

    code: str
    message: str
    retryable: bool = False
    hint: str | None = None
    problems: tuple[dict[str, JsonValue], ...] = ()
    details: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, error: WorkerError) -> JobError:
        """Return `error` as a record."""
        return cls.model_validate(error.to_dict())


class JobResult(_Record):
    """What came of a job."""

    id: str
    status: JobStatus
    artifacts: tuple[Artifact, ...] = ()
    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    """What went differently than asked, although the job went on."""
    used: dict[str, JsonValue] = Field(default_factory=dict)
    """What was drawn or chosen for the request: `{"seed": 17}` for a shortcut or parameter, else `{"6.seed": 17}`."""
    timings: Timings = Timings()
    created_at: float | None = None
    """When the job came in, in seconds of Unix time."""
    completed_at: float | None = None
    """When the job ended, in seconds of Unix time."""
    prompt_id: str | None = None
    """ComfyUI's id for the execution; None if it was never submitted."""
    node_timings_s: dict[str, float] = Field(default_factory=dict)
    """Seconds that each executed node took."""
    cold_start: ColdStart | None = None
    """How the worker started; only for the first job after that."""

    @classmethod
    def refused(cls, job_id: str, error: WorkerError) -> JobResult:
        """Return the result of a job that could not even begin."""
        return cls(id=job_id, status=JobStatus.FAILED, error=JobError.of(error))
