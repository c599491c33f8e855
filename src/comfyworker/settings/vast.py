"""The settings of `comfyworker vast`: what Vast.ai tells a worker, and how it is rated."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env


class VastSettings(Group):
    """Where the worker is reached, and to whom it reports."""

    report_addresses: tuple[str, ...] = Field(
        default=(),
        validation_alias=env("REPORT_ADDR"),
        description="Base URLs of Vast's autoscaler, with commas between them; set by Vast.",
    )
    master_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("MASTER_TOKEN"),
        description="Token for those reports; set by Vast.",
    )
    unsecured: bool = Field(
        default=False,
        validation_alias=env("UNSECURED"),
        description="Take requests that Vast has not signed; only for tests.",
    )

    @field_validator("report_addresses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(url.strip().rstrip("/") for url in value.split(",") if url.strip())
        return value
