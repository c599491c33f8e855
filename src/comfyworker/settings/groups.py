"""The settings of each room: name, type, default, meaning, and the names that other workers gave them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator


def env(*names: str) -> AliasChoices:
    """Return the environment names of a field; the first is ours, the others are understood too."""
    return AliasChoices(*names)


class Group(BaseModel):
    """What every group of settings is: read-only, each field named by its environment variable."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")


class ComfyUISettings(Group):
    """Where ComfyUI is, how it is started and how it is spoken to."""

    api_urls: tuple[str, ...] = Field(
        default=(),
        validation_alias=env("COMFY_API_URL"),
        description="Base URLs of ComfyUIs that run already, with commas between them; none is started then.",
    )
    path: Path | None = Field(
        default=None,
        validation_alias=env("COMFYUI_PATH"),
        description="Folder of a ComfyUI to start (the one that holds main.py).",
    )
    python: Path | None = Field(
        default=None,
        validation_alias=env("COMFYUI_PYTHON"),
        description="Python interpreter for that ComfyUI; without it, the environment in or beside its folder.",
    )
    base_dir: Path | None = Field(
        default=None,
        validation_alias=env("COMFYUI_BASE_DIR"),
        description="Folder that holds ComfyUI's models, input, output, temp, user and custom_nodes, if it is another "
        "one. Beside COMFY_API_URL it tells where that ComfyUI's files lie on this disk.",
    )
    home: str | None = Field(
        default=None,
        validation_alias=env("COMFYUI_HOME"),
        description="Where ComfyUI lives: `image` (the default) runs it from where it is installed; `volume` places it "
        "at the first start on RunPod's network volume, else in `/workspace`, else in `./workspace`, where it stays; "
        "so does the path of a folder, there. COMFYUI_PATH goes before.",
    )
    image_path: Path | None = Field(
        default=None,
        validation_alias=env("COMFYUI_IMAGE_PATH"),
        description="Folder of the ComfyUI that the container's image carries, with its environment; set by the image. "
        "It is what COMFYUI_HOME places elsewhere, and the first place that is looked at.",
    )
    repository: str = Field(
        default="https://github.com/comfyanonymous/ComfyUI",
        validation_alias=env("COMFYUI_REPOSITORY"),
        description="Git repository that versions of ComfyUI are fetched from: the official one, a mirror or a fork.",
    )
    args: tuple[str, ...] = Field(
        default=(),
        validation_alias=env("COMFYUI_ARGS"),
        description="More flags for ComfyUI's command line, as a shell would read them.",
    )
    port: int = Field(
        default=8188,
        ge=1,
        le=65535,
        validation_alias=env("COMFYUI_PORT"),
        description="Port of the ComfyUI that is started; the next free one is taken where it is in use.",
    )
    instances: int | Literal["auto"] = Field(
        default="auto",
        validation_alias=env("COMFYUI_INSTANCES"),
        description="How many ComfyUIs to start; `auto` is one for each NVIDIA GPU, or one.",
    )
    start_timeout_s: float = Field(
        default=600.0,
        gt=0,
        validation_alias=env("COMFYUI_START_TIMEOUT_S"),
        description="Seconds within which ComfyUI must answer after its start.",
    )
    restart_max_delay_s: float = Field(
        default=30.0,
        ge=0,
        validation_alias=env("COMFYUI_RESTART_MAX_DELAY_S"),
        description="Longest pause in seconds before a ComfyUI that died is started again; the pauses double from 1 s.",
    )
    hang_timeout_s: float = Field(
        default=300.0,
        ge=0,
        validation_alias=env("COMFYUI_HANG_TIMEOUT_S"),
        description="Seconds of silence, on HTTP and WebSocket, after which a ComfyUI that was started here is killed "
        "and started anew; 0 is never. Loading a large model can keep it from answering for a minute or more.",
    )
    available_interval_ms: int = Field(
        default=50,
        ge=1,
        validation_alias=env("COMFY_API_AVAILABLE_INTERVAL_MS"),
        description="Milliseconds between two looks whether ComfyUI answers yet.",
    )
    available_max_retries: int = Field(
        default=0,
        ge=0,
        validation_alias=env("COMFY_API_AVAILABLE_MAX_RETRIES"),
        description="How often to look at most for a ComfyUI of COMFY_API_URL; 0 looks until its time limit. One that "
        "is started here has COMFYUI_START_TIMEOUT_S.",
    )
    available_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=env("COMFY_API_AVAILABLE_TIMEOUT_S"),
        description="Seconds that a ComfyUI of COMFY_API_URL may not answer before waiting jobs fail.",
    )
    connect_timeout_s: float = Field(
        default=5.0,
        gt=0,
        validation_alias=env("COMFYUI_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to ComfyUI must stand.",
    )
    read_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias=env("COMFYUI_READ_TIMEOUT_S"),
        description="Seconds that ComfyUI may stay silent in the middle of an HTTP answer.",
    )
    websocket_reconnect_attempts: int = Field(
        default=5,
        ge=1,
        validation_alias=env("WEBSOCKET_RECONNECT_ATTEMPTS"),
        description="How many attempts in a row may fail before the jobs on that ComfyUI fail as comfyui_unreachable.",
    )
    websocket_reconnect_delay_s: float = Field(
        default=3.0,
        ge=0,
        validation_alias=env("WEBSOCKET_RECONNECT_DELAY_S"),
        description="Seconds between two attempts to open the WebSocket again; the first one is made at once.",
    )
    websocket_trace: bool = Field(
        default=False,
        validation_alias=env("WEBSOCKET_TRACE"),
        description="Log every WebSocket frame from ComfyUI (at level debug).",
    )
    queue_depth: int = Field(
        default=2,
        ge=1,
        validation_alias=env("COMFYUI_QUEUE_DEPTH"),
        description="How many jobs may be in one ComfyUI's own queue, the running one included; the next waits there, "
        "so that the GPU never waits.",
    )
    preview_method: Literal["none", "auto", "latent2rgb", "taesd"] | None = Field(
        default=None,
        validation_alias=env("COMFYUI_PREVIEW_METHOD"),
        description="How ComfyUI makes previews while a node samples (its --preview-method), which takes it a moment "
        "for every step. Without it `comfyworker serve`, whose clients can see them, takes `auto`, and all else none.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO",
        validation_alias=env("COMFY_LOG_LEVEL"),
        description="How much the started ComfyUI logs (its --verbose).",
    )

    @field_validator("api_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(url.strip() for url in value.split(",") if url.strip())
        return value

    @field_validator("api_urls")
    @classmethod
    def _check_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        urls = tuple(url if "://" in url else f"http://{url}" for url in value)
        for url in urls:
            if not url.startswith(("http://", "https://")):
                message = f"'{url}' is no http or https URL"
                raise ValueError(message)
        return tuple(url.rstrip("/") for url in urls)

    @field_validator("args", mode="before")
    @classmethod
    def _split_args(cls, value: object) -> object:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("instances")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            message = "must be at least 1, or auto"
            raise ValueError(message)
        return value


class JobSettings(Group):
    """What holds for every job."""

    timeout_s: float = Field(
        default=3600.0,
        gt=0,
        validation_alias=env("JOB_TIMEOUT_S"),
        description="Seconds within which a job must be done, if it does not bring a timeout of its own.",
    )
    cancel_deadline_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=env("CANCEL_DEADLINE_S"),
        description="Seconds to wait until ComfyUI has let go of a job that was stopped.",
    )
    response_format: Literal["worker-comfyui", "urls", "flux", "pyworker"] = Field(
        default="worker-comfyui",
        validation_alias=env("RESPONSE_FORMAT"),
        description="Dialect of the answers to requests that name none in `response_format`.",
    )
    comfy_org_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=env("COMFY_ORG_API_KEY"),
        description="Comfy.org key for ComfyUI's API nodes; a key in the request wins.",
    )


class InputSettings(Group):
    """What may come in with a request."""

    max_file_bytes: int = Field(
        default=200_000_000,
        gt=0,
        validation_alias=env("INPUT_MAX_BYTES"),
        description="Largest input file in bytes, decoded.",
    )
    max_pixels: int = Field(
        default=200_000_000,
        gt=0,
        validation_alias=env("INPUT_MAX_PIXELS"),
        description="Most pixels that an input picture may have, so that no small file fills the memory.",
    )
    allow_private_urls: bool = Field(
        default=False,
        validation_alias=env("ALLOW_PRIVATE_URLS"),
        description="Fetch input files also from this machine and from private networks; only for callers you trust.",
    )
    url_timeout_s: float = Field(
        default=120.0,
        gt=0,
        validation_alias=env("INPUT_URL_TIMEOUT_S"),
        description="Seconds within which an input file must be fetched from its URL, redirects and retries included.",
    )
    url_connect_timeout_s: float = Field(
        default=10.0,
        gt=0,
        validation_alias=env("INPUT_URL_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to a URL's host must stand.",
    )
    url_read_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=env("INPUT_URL_READ_TIMEOUT_S"),
        description="Seconds that a URL's host may stay silent in the middle of its answer.",
    )
    url_max_redirects: int = Field(
        default=5,
        ge=0,
        validation_alias=env("INPUT_URL_MAX_REDIRECTS"),
        description="How many redirects are followed from the URL of an input file.",
    )
    url_attempts: int = Field(
        default=3,
        ge=1,
        validation_alias=env("INPUT_URL_ATTEMPTS"),
        description="How often a URL is asked at most while its host fails (5xx, broken connections).",
    )
    url_parallel: int = Field(
        default=4,
        ge=1,
        validation_alias=env("INPUT_URL_PARALLEL"),
        description="How many input files of one job are fetched at the same time.",
    )
    max_fetched_bytes: int = Field(
        default=1_000_000_000,
        gt=0,
        validation_alias=env("INPUT_URLS_MAX_BYTES"),
        description="Most bytes that one job's input files by URL may have together, since memory holds them.",
    )


class ModifierSettings(Group):
    """Which modifiers there are."""

    folder: Path | None = Field(
        default=None,
        validation_alias=env("MODIFIERS_DIR"),
        description="Folder with more modifier files (`*.json`); one that bears the name of a built-in replaces it.",
    )
    default_workflow: Path | None = Field(
        default=None,
        validation_alias=env("DEFAULT_WORKFLOW"),
        description="Workflow file (API format) for the modifier RawWorkflow where the request brings none; without "
        "it, Text2Image's.",
    )


class LogSettings(Group):
    """How the worker logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        validation_alias=env("LOG_LEVEL"),
        description="How much the worker logs.",
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        validation_alias=env("LOG_FORMAT"),
        description="`json` or `console`; `auto` is console on a terminal, else json.",
    )

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class ShutdownSettings(Group):
    """How the worker ends."""

    grace_s: float = Field(
        default=10.0,
        ge=0,
        validation_alias=env("SHUTDOWN_GRACE_S"),
        description="Seconds that ComfyUI gets to end by itself before it is killed.",
    )
