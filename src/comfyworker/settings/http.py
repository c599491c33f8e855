"""The settings of `comfyworker serve`."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env

_SHORTEST_KEY = 8


class HttpSettings(Group):
    """Where the HTTP server listens, whom it answers, and what it takes."""

    host: str = Field(
        default="127.0.0.1",
        validation_alias=env("SERVE_HOST"),
        description="Address that `comfyworker serve` listens on; `0.0.0.0` is all of them, and needs API_KEYS.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias=env("SERVE_PORT"),
        description="Port that `comfyworker serve` listens on; 0 takes a free one.",
    )
    api_keys: tuple[SecretStr, ...] = Field(
        default=(),
        validation_alias=env("API_KEYS"),
        description="Keys that clients send as `Authorization: Bearer KEY`, with commas between them; each sees its "
        "own jobs only. `name:KEY` gives several keys the same jobs.",
    )
    allow_anybody: bool = Field(
        default=False,
        validation_alias=env("SERVE_WITHOUT_KEYS"),
        description="Listen without API_KEYS on an address that other machines reach; only where something in front "
        "checks who asks.",
    )
    public_url: str | None = Field(
        default=None,
        validation_alias=env("PUBLIC_URL"),
        description="URL under which clients reach the server, for the URLs in its answers; without it, what the "
        "request's Host header says.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        validation_alias=env("CORS_ORIGINS"),
        description="Web pages' origins, with commas between them, whose scripts may call the server; none without "
        "it, `*` is all.",
    )
    request_max_bytes: int = Field(
        default=64_000_000,
        gt=0,
        validation_alias=env("REQUEST_MAX_BYTES"),
        description="Largest body of a request in bytes, input files as base64 included.",
    )
    artifact_url_expires_s: float = Field(
        default=86400.0,
        gt=0,
        validation_alias=env("ARTIFACT_URL_EXPIRES_S"),
        description="Seconds that the server's URLs for artifacts work; never longer than the artifacts are kept.",
    )
    runsync_wait_s: float = Field(
        default=90.0,
        gt=0,
        validation_alias=env("RUNSYNC_WAIT_S"),
        description="Seconds that `/runsync` waits for a job's end where the request does not say (`?wait=`, in ms); "
        "a job that takes longer goes on, and is asked for with `/status`.",
    )
    drain_timeout_s: float = Field(
        default=30.0,
        ge=0,
        validation_alias=env("DRAIN_TIMEOUT_S", "DRAIN_TIMEOUT"),
        description="Seconds that running jobs get after SIGTERM or Ctrl-C; then they are taken back, and run at the "
        "next start. On RunPod they are answered with an error that says to send them again.",
    )

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value().rpartition(":")[2]) < _SHORTEST_KEY for key in value):
            message = f"a key must have at least {_SHORTEST_KEY} characters"
            raise ValueError(message)
        return value

    @field_validator("public_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            message = "must begin with http:// or https://"
            raise ValueError(message)
        return value.rstrip("/") if value is not None else None
