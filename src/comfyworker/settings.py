"""Every environment variable of the worker, once: its type, default, meaning, and the names that other workers gave it.

Nothing else reads the environment. `load_settings()` is called once, at the entry point, and parts of the result are
passed down: the delivery room gets `DeliverySettings`, never `Settings`.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.redaction import hide_credentials


def _env(*names: str) -> AliasChoices:
    """Return the environment names of a field; the first is ours, the others are understood too."""
    return AliasChoices(*names)


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")


class ComfyUISettings(_Group):
    """Where ComfyUI is, how it is started and how it is spoken to."""

    api_urls: tuple[str, ...] = Field(
        default=(),
        validation_alias=_env("COMFY_API_URL"),
        description="Base URLs of ComfyUIs that run already, with commas between them; none is started then.",
    )
    path: Path | None = Field(
        default=None,
        validation_alias=_env("COMFYUI_PATH"),
        description="Folder of a ComfyUI to start (the one that holds main.py).",
    )
    python: Path | None = Field(
        default=None,
        validation_alias=_env("COMFYUI_PYTHON"),
        description="Python interpreter for that ComfyUI; without it, the environment in or beside its folder.",
    )
    base_dir: Path | None = Field(
        default=None,
        validation_alias=_env("COMFYUI_BASE_DIR"),
        description="Folder that holds ComfyUI's models, input, output, temp, user and custom_nodes, if it is another "
        "one. Beside COMFY_API_URL it tells where that ComfyUI's files lie on this disk.",
    )
    args: tuple[str, ...] = Field(
        default=(),
        validation_alias=_env("COMFYUI_ARGS"),
        description="More flags for ComfyUI's command line, as a shell would read them.",
    )
    port: int = Field(
        default=8188,
        ge=1,
        le=65535,
        validation_alias=_env("COMFYUI_PORT"),
        description="Port of the ComfyUI that is started; the next free one is taken where it is in use.",
    )
    instances: int | Literal["auto"] = Field(
        default="auto",
        validation_alias=_env("COMFYUI_INSTANCES"),
        description="How many ComfyUIs to start; `auto` is one for each NVIDIA GPU, or one.",
    )
    start_timeout_s: float = Field(
        default=600.0,
        gt=0,
        validation_alias=_env("COMFYUI_START_TIMEOUT_S"),
        description="Seconds within which ComfyUI must answer after its start.",
    )
    restart_max_delay_s: float = Field(
        default=30.0,
        ge=0,
        validation_alias=_env("COMFYUI_RESTART_MAX_DELAY_S"),
        description="Longest pause in seconds before a ComfyUI that died is started again; the pauses double from 1 s.",
    )
    available_interval_ms: int = Field(
        default=50,
        ge=1,
        validation_alias=_env("COMFY_API_AVAILABLE_INTERVAL_MS"),
        description="Milliseconds between two looks whether ComfyUI answers yet.",
    )
    available_max_retries: int = Field(
        default=0,
        ge=0,
        validation_alias=_env("COMFY_API_AVAILABLE_MAX_RETRIES"),
        description="How often to look at most for a ComfyUI of COMFY_API_URL; 0 looks until its time limit. One that "
        "is started here has COMFYUI_START_TIMEOUT_S.",
    )
    available_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=_env("COMFY_API_AVAILABLE_TIMEOUT_S"),
        description="Seconds that a ComfyUI of COMFY_API_URL may not answer before waiting jobs fail.",
    )
    connect_timeout_s: float = Field(
        default=5.0,
        gt=0,
        validation_alias=_env("COMFYUI_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to ComfyUI must stand.",
    )
    read_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias=_env("COMFYUI_READ_TIMEOUT_S"),
        description="Seconds that ComfyUI may stay silent in the middle of an HTTP answer.",
    )
    websocket_reconnect_attempts: int = Field(
        default=5,
        ge=1,
        validation_alias=_env("WEBSOCKET_RECONNECT_ATTEMPTS"),
        description="How many attempts in a row may fail before the jobs on that ComfyUI fail as comfyui_unreachable.",
    )
    websocket_reconnect_delay_s: float = Field(
        default=3.0,
        ge=0,
        validation_alias=_env("WEBSOCKET_RECONNECT_DELAY_S"),
        description="Seconds between two attempts to open the WebSocket again; the first one is made at once.",
    )
    websocket_trace: bool = Field(
        default=False,
        validation_alias=_env("WEBSOCKET_TRACE"),
        description="Log every WebSocket frame from ComfyUI (at level debug).",
    )
    queue_depth: int = Field(
        default=2,
        ge=1,
        validation_alias=_env("COMFYUI_QUEUE_DEPTH"),
        description="How many jobs may be in one ComfyUI's own queue, the running one included; the next waits there, "
        "so that the GPU never waits.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO",
        validation_alias=_env("COMFY_LOG_LEVEL"),
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


class JobSettings(_Group):
    """What holds for every job."""

    timeout_s: float = Field(
        default=3600.0,
        gt=0,
        validation_alias=_env("JOB_TIMEOUT_S"),
        description="Seconds within which a job must be done, if it does not bring a timeout of its own.",
    )
    cancel_deadline_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=_env("CANCEL_DEADLINE_S"),
        description="Seconds to wait until ComfyUI has let go of a job that was stopped.",
    )
    response_format: Literal["worker-comfyui", "urls", "flux", "pyworker"] = Field(
        default="worker-comfyui",
        validation_alias=_env("RESPONSE_FORMAT"),
        description="Dialect of the answers to requests that name none in `response_format`.",
    )
    comfy_org_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_env("COMFY_ORG_API_KEY"),
        description="Comfy.org key for ComfyUI's API nodes; a key in the request wins.",
    )


class InputSettings(_Group):
    """What may come in with a request."""

    max_file_bytes: int = Field(
        default=200_000_000,
        gt=0,
        validation_alias=_env("INPUT_MAX_BYTES"),
        description="Largest input file in bytes, decoded.",
    )
    max_pixels: int = Field(
        default=200_000_000,
        gt=0,
        validation_alias=_env("INPUT_MAX_PIXELS"),
        description="Most pixels that an input picture may have, so that no small file fills the memory.",
    )
    allow_private_urls: bool = Field(
        default=False,
        validation_alias=_env("ALLOW_PRIVATE_URLS"),
        description="Fetch input files also from this machine and from private networks; only for callers you trust.",
    )
    url_timeout_s: float = Field(
        default=120.0,
        gt=0,
        validation_alias=_env("INPUT_URL_TIMEOUT_S"),
        description="Seconds within which an input file must be fetched from its URL, redirects and retries included.",
    )
    url_connect_timeout_s: float = Field(
        default=10.0,
        gt=0,
        validation_alias=_env("INPUT_URL_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to a URL's host must stand.",
    )
    url_read_timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=_env("INPUT_URL_READ_TIMEOUT_S"),
        description="Seconds that a URL's host may stay silent in the middle of its answer.",
    )
    url_max_redirects: int = Field(
        default=5,
        ge=0,
        validation_alias=_env("INPUT_URL_MAX_REDIRECTS"),
        description="How many redirects are followed from the URL of an input file.",
    )
    url_attempts: int = Field(
        default=3,
        ge=1,
        validation_alias=_env("INPUT_URL_ATTEMPTS"),
        description="How often a URL is asked at most while its host fails (5xx, broken connections).",
    )
    url_parallel: int = Field(
        default=4,
        ge=1,
        validation_alias=_env("INPUT_URL_PARALLEL"),
        description="How many input files of one job are fetched at the same time.",
    )
    max_fetched_bytes: int = Field(
        default=1_000_000_000,
        gt=0,
        validation_alias=_env("INPUT_URLS_MAX_BYTES"),
        description="Most bytes that one job's input files by URL may have together, since memory holds them.",
    )


class ModifierSettings(_Group):
    """Which modifiers there are."""

    folder: Path | None = Field(
        default=None,
        validation_alias=_env("MODIFIERS_DIR"),
        description="Folder with more modifier files (`*.json`); one that bears the name of a built-in replaces it.",
    )
    default_workflow: Path | None = Field(
        default=None,
        validation_alias=_env("DEFAULT_WORKFLOW"),
        description="Workflow file (API format) for the modifier RawWorkflow where the request brings none; without "
        "it, Text2Image's.",
    )


class DeliverySettings(_Group):
    """What becomes of a job's outputs."""

    keep_outputs: bool = Field(
        default=False,
        validation_alias=_env("KEEP_OUTPUTS"),
        description="Leave outputs in ComfyUI's folders after delivery.",
    )
    spool_dir: Path | None = Field(
        default=None,
        validation_alias=_env("SPOOL_DIR"),
        description="Folder for outputs of a ComfyUI on another machine, until they are delivered; without it, the "
        "system's folder for temporary files.",
    )


class LogSettings(_Group):
    """How the worker logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        validation_alias=_env("LOG_LEVEL"),
        description="How much the worker logs.",
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        validation_alias=_env("LOG_FORMAT"),
        description="`json` or `console`; `auto` is console on a terminal, else json.",
    )

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class ShutdownSettings(_Group):
    """How the worker ends."""

    grace_s: float = Field(
        default=10.0,
        ge=0,
        validation_alias=_env("SHUTDOWN_GRACE_S"),
        description="Seconds that ComfyUI gets to end by itself before it is killed.",
    )


class Settings(_Group):
    """All settings of a worker, by room."""

    comfyui: ComfyUISettings = ComfyUISettings()
    job: JobSettings = JobSettings()
    inputs: InputSettings = InputSettings()
    modifiers: ModifierSettings = ModifierSettings()
    delivery: DeliverySettings = DeliverySettings()
    log: LogSettings = LogSettings()
    shutdown: ShutdownSettings = ShutdownSettings()


class SettingEntry(BaseModel):
    """One setting as the docs and `comfyworker settings show` list it."""

    model_config = ConfigDict(frozen=True)

    group: str
    field: str
    names: tuple[str, ...]
    """Its environment names, ours first."""
    type_name: str
    default: str
    description: str
    is_secret: bool


def environment_names(field: FieldInfo) -> tuple[str, ...]:
    """Return the environment names of one field, ours first."""
    alias = field.validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


def _groups() -> Iterator[tuple[str, type[_Group]]]:
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            yield name, group


def _type_name(field: FieldInfo) -> str:
    """Return a field's type in a reader's words, as `integer` or `list`."""
    text = str(field.annotation)
    choices = getattr(field.annotation, "__args__", ())
    if text.startswith("typing.Literal"):
        return " | ".join(str(choice) for choice in choices)
    if "Literal" in text:
        return "integer | auto"
    words = {"Path": "path", "SecretStr": "secret", "tuple": "list", "bool": "true | false", "int": "integer"}
    return next((word for part, word in words.items() if part in text), "number" if "float" in text else "text")


def list_settings() -> tuple[SettingEntry, ...]:
    """Return every setting there is, in the order of the groups."""
    return tuple(
        SettingEntry(
            group=group_name,
            field=field_name,
            names=environment_names(field),
            type_name=_type_name(field),
            default="" if field.default in (None, ()) else str(field.default),
            description=field.description or "",
            is_secret="SecretStr" in str(field.annotation),
        )
        for group_name, group in _groups()
        for field_name, field in group.model_fields.items()
    )


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    # An empty variable counts as unset: compose files and platforms hand on empty ones for fields left blank.
    return bool(environ.get(name, "").strip())


def _read_group(group: type[_Group], environ: Mapping[str, str], problems: list[Problem]) -> _Group | None:
    values: dict[str, str] = {}
    for field_name, field in group.model_fields.items():
        given = {name: environ[name].strip() for name in environment_names(field) if _is_set(environ, name)}
        if len(set(given.values())) > 1:
            message = f"{' and '.join(given)} mean the same setting but are set to different values"
            problems.append(Problem(message=message, path=" ".join(given), code="conflicting_aliases"))
        elif given:
            values[field_name] = next(iter(given.values()))
    try:
        return group.model_validate(values)
    except ValidationError as error:
        problems.extend(_problem(group, item) for item in error.errors(include_url=False))
        return None


def _problem(group: type[_Group], item: ErrorDetails) -> Problem:
    """Say one bad value in the words of the environment; a secret's value is never repeated."""
    located = str(item["loc"][0])
    for field_name, field in group.model_fields.items():
        names = environment_names(field)
        if located == field_name or located in names:
            received = "" if "SecretStr" in str(field.annotation) else hide_credentials(f" (it is '{item['input']}')")
            reason = hide_credentials(item["msg"].removeprefix("Value error, "))
            return Problem(message=f"{names[0]}: {reason}{received}", path=names[0], code="invalid_value")
    return Problem(message=f"{located}: {item['msg']}", path=located, code="invalid_value")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read all settings from the environment.

    Args:
        environ: The variables to read; None takes the process's own.

    Raises:
        InvalidSettings: with *every* variable that does not fit, and every pair of aliases that disagree.
    """
    variables = os.environ if environ is None else environ
    problems: list[Problem] = []
    groups = {name: _read_group(group, variables, problems) for name, group in _groups()}
    if problems:
        raise InvalidSettings(
            "; ".join(problem.message for problem in problems),
            hint="Correct or unset these environment variables; `comfyworker settings` lists all of them.",
            problems=problems,
        )
    return Settings.model_validate(groups)


def near_misses(environ: Mapping[str, str] | None = None) -> tuple[tuple[str, str], ...]:
    """Return (name that is set, name that was probably meant) for variables that nearly bear one of our names."""
    variables = os.environ if environ is None else environ
    known = {name for entry in list_settings() for name in entry.names}
    marks = ("COMFYUI_", "COMFY_", "COMFYWORKER_")
    found = []
    for name in sorted(variables):
        if name in known or not name.startswith(marks):
            continue
        bare = name.removeprefix("COMFYWORKER_")
        close = difflib.get_close_matches(bare, known, n=1, cutoff=0.8)
        if close:
            found.append((name, close[0]))
    return tuple(found)


def process_environment() -> dict[str, str]:
    """Return a copy of the process's environment, for a child process to start from."""
    return dict(os.environ)
