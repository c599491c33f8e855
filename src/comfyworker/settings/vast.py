"""The settings of `comfyworker vast`: what Vast.ai tells a worker, and how it is rated."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env


class VastSettings(Group):
    """What Vast.ai tells a worker, and how it is rated there."""

    report_addresses: tuple[str, ...] = Field(
        default=(),
        validation_alias=env("REPORT_ADDR"),
        description="Base URLs of Vast's autoscaler, with commas between them; each report goes to the first that "
        "takes it. Set by Vast.",
    )
    master_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("MASTER_TOKEN"),
        description="Token for those reports. Set by Vast.",
    )
    container_id: int | None = Field(
        default=None,
        validation_alias=env("CONTAINER_ID"),
        description="Number of the instance, under which it reports. Set by Vast.",
    )
    public_ip: str | None = Field(
        default=None,
        validation_alias=env("PUBLIC_IPADDR"),
        description="Address under which clients reach the machine. Set by Vast.",
    )
    worker_port: int = Field(
        default=3000,
        ge=0,
        le=65535,
        validation_alias=env("WORKER_PORT"),
        description="Port that `comfyworker vast` listens on, on all addresses.",
    )
    public_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        validation_alias=env("VAST_TCP_PORT_<WORKER_PORT>"),
        description="Port under which clients reach that one: the variable's name ends with the number that "
        "WORKER_PORT has. Set by Vast for each open port.",
    )
    use_ssl: bool = Field(
        default=False,
        validation_alias=env("USE_SSL"),
        description="Serve https, with the instance's certificate.",
    )
    certificate: Path = Field(
        default=Path("/etc/instance.crt"),
        validation_alias=env("VAST_CERTIFICATE"),
        description="The instance's certificate, for USE_SSL.",
    )
    certificate_key: Path = Field(
        default=Path("/etc/instance.key"),
        validation_alias=env("VAST_CERTIFICATE_KEY"),
        description="The key of that certificate.",
    )
    unsecured: bool = Field(
        default=False,
        validation_alias=env("UNSECURED"),
        description="Take requests that Vast has not signed; only for tests.",
    )
    max_queue_time_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=env("MAX_QUEUE_TIME_S", "MAX_QUEUE_TIME"),
        description="Seconds of work, as the benchmark measured it, that may wait here; a request beyond that is "
        "answered 429, and Vast's client takes it to another worker.",
    )
    max_sessions: int = Field(
        default=10,
        ge=0,
        validation_alias=env("MAX_SESSIONS"),
        description="Sessions of Vast's clients that may be open at a time; 0 is no limit.",
    )
    benchmark_path: Path | None = Field(
        default=None,
        validation_alias=env("BENCHMARK_JSON_PATH"),
        description="File with the workflow that the worker is rated by; without it `misc/benchmark.json`, and without "
        "that the modifier Text2Image.",
    )
    benchmark_runs: int = Field(
        default=8,
        ge=1,
        validation_alias=env("BENCHMARK_RUNS"),
        description="Runs of that workflow that are measured, after one that is not; the best one counts.",
    )
    benchmark_width: int = Field(
        default=512,
        ge=16,
        validation_alias=env("BENCHMARK_TEST_WIDTH"),
        description="Width of the pictures where Text2Image is the benchmark.",
    )
    benchmark_height: int = Field(
        default=512,
        ge=16,
        validation_alias=env("BENCHMARK_TEST_HEIGHT"),
        description="Height of the pictures where Text2Image is the benchmark.",
    )
    benchmark_steps: int = Field(
        default=20,
        ge=1,
        validation_alias=env("BENCHMARK_TEST_STEPS"),
        description="Sampler steps where Text2Image is the benchmark.",
    )
    broken_after_s: float = Field(
        default=60.0,
        ge=0,
        validation_alias=env("VAST_BROKEN_AFTER_S"),
        description="Seconds that no ComfyUI may take jobs before Vast is told that the worker is broken; a restart "
        "takes less.",
    )

    @field_validator("report_addresses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(url.strip().rstrip("/") for url in value.split(",") if url.strip())
        return value

    @field_validator("report_addresses")
    @classmethod
    def _http_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(url.startswith(("http://", "https://")) for url in value):
            message = "each URL must begin with http:// or https://"
            raise ValueError(message)
        return value

    @field_validator("public_ip")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if value is not None and any(mark in value for mark in "/@?# "):
            message = "must be an address alone, without a scheme or a path"
            raise ValueError(message)
        return value
