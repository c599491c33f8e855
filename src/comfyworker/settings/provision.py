"""The settings of provisioning: which config.yml applies, and how models and custom nodes are fetched."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env


class ProvisionSettings(Group):
    """How a machine is made ready: models and custom nodes."""

    config_yml: str | None = Field(
        default=None,
        validation_alias=env("CONFIG_YML"),
        description="A whole config.yml, as base64 or as it is; it wins over the file on the volume, which it "
        "replaces.",
    )
    config_path: Path | None = Field(
        default=None,
        validation_alias=env("CONFIG_PATH"),
        description="File to take instead of the config.yml on the volume or in the working directory.",
    )
    at_start: bool | None = Field(
        default=None,
        validation_alias=env("PROVISION_AT_START"),
        description="Make the config.yml that applies true when the worker starts: custom nodes before ComfyUI, models "
        "meanwhile. Without it, only `comfyworker start` does.",
    )
    hf_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("HF_TOKEN", "HF_API_TOKEN", "HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="Token for private and gated repositories of Hugging Face.",
    )
    hf_endpoint: str | None = Field(
        default=None,
        validation_alias=env("HF_ENDPOINT"),
        description="The Hub, or a mirror of it, that files of Hugging Face are fetched from; without it, "
        "`https://huggingface.co`.",
    )
    hf_offline: bool = Field(
        default=False,
        validation_alias=env("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        description="Fetch nothing from Hugging Face.",
    )
    civitai_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("CIVITAI_TOKEN", "CIVITAI_API_TOKEN"),
        description="Token for downloads from Civitai.",
    )
    parallel: int = Field(
        default=4,
        ge=1,
        le=32,
        validation_alias=env("DOWNLOAD_PARALLEL"),
        description="How many models are fetched at the same time.",
    )
    connections: int = Field(
        default=8,
        ge=1,
        le=64,
        validation_alias=env("DOWNLOAD_CONNECTIONS"),
        description="How many ranges of one file are fetched at the same time, where its host takes that.",
    )
    attempts: int = Field(
        default=5,
        ge=1,
        validation_alias=env("DOWNLOAD_ATTEMPTS"),
        description="How often a part of a file is asked for at most while its host fails or breaks off.",
    )
    connect_timeout_s: float = Field(
        default=15.0,
        gt=0,
        validation_alias=env("DOWNLOAD_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to a model's host must stand.",
    )
    read_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias=env("DOWNLOAD_READ_TIMEOUT_S"),
        description="Seconds that a model's host may stay silent in the middle of a file.",
    )
    download_models: bool = Field(
        default=False,
        validation_alias=env("DOWNLOAD_MODELS"),
        description="Fetch models that a job's workflow lacks and names a URL for, if its host is one of "
        "ALLOWED_MODEL_HOSTS.",
    )
    allowed_model_hosts: tuple[str, ...] = Field(
        default=("huggingface.co",),
        validation_alias=env("ALLOWED_MODEL_HOSTS"),
        description="Hosts, with commas between them, that models may be fetched from because a job's workflow says "
        "so; `*.example.org` is all below it. Over https only, unless a host stands there as `http://host:port`.",
    )
    allowed_model_endings: tuple[str, ...] = Field(
        default=(".safetensors", ".sft", ".gguf"),
        validation_alias=env("ALLOWED_MODEL_ENDINGS"),
        description="Endings, with commas between them, of files that DOWNLOAD_MODELS fetches. Others, as .ckpt and "
        ".pt, can hold programs, which ComfyUI may run when it loads them.",
    )
    model_max_gb: float = Field(
        default=50.0,
        gt=0,
        validation_alias=env("MODEL_MAX_GB"),
        description="The largest file that DOWNLOAD_MODELS fetches, in gigabytes.",
    )
    download_with_tokens: bool = Field(
        default=False,
        validation_alias=env("DOWNLOAD_MODELS_WITH_TOKENS"),
        description="Use HF_TOKEN and CIVITAI_TOKEN for DOWNLOAD_MODELS too. Whoever may send jobs can then use every "
        "model that the tokens can read.",
    )
    model_wait_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        validation_alias=env("MODEL_WAIT_TIMEOUT_S"),
        description="Seconds that a job waits for models that are being downloaded, those of config.yml and those of "
        "DOWNLOAD_MODELS. They do not count as the job's own time (JOB_TIMEOUT_S).",
    )
    comfy_registry_url: str = Field(
        default="https://api.comfy.org",
        pattern=r"^https?://\S+$",
        validation_alias=env("COMFY_REGISTRY_URL"),
        description="The Comfy Registry, which custom nodes that config.yml names by `name` come from.",
    )
    github_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("GITHUB_TOKEN", "GH_TOKEN"),
        description="Token for custom nodes in private repositories on github.com.",
    )
    git_timeout_s: float = Field(
        default=600.0,
        gt=0,
        validation_alias=env("GIT_TIMEOUT_S"),
        description="Seconds that git may take to fetch one custom node.",
    )
    node_install_timeout_s: float = Field(
        default=1800.0,
        gt=0,
        validation_alias=env("NODE_INSTALL_TIMEOUT_S"),
        description="Seconds that installing the packages of all custom nodes may take, and the install.py of one.",
    )

    @field_validator("allowed_model_hosts", "allowed_model_endings", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value
