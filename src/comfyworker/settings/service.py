"""The settings of the job service: how many jobs wait, and how long what came of them is kept."""

from __future__ import annotations

from pydantic import Field

from comfyworker.settings.groups import Group, env


class QueueSettings(Group):
    """Jobs that wait in the worker, and how long their results are kept."""

    max_queued: int = Field(
        default=1000,
        ge=1,
        validation_alias=env("QUEUE_MAX"),
        description="How many jobs may wait in the worker; more are refused as queue_full.",
    )
    ttl_s: float = Field(
        default=86400.0,
        gt=0,
        validation_alias=env("QUEUE_TTL_S"),
        description="Seconds that a job may wait before it begins, if it does not say; then it is expired.",
    )
    result_ttl_s: float = Field(
        default=86400.0,
        gt=0,
        validation_alias=env("RESULT_TTL_S"),
        description="Seconds that a job's result and its files are kept after its end.",
    )
    record_ttl_s: float = Field(
        default=604800.0,
        ge=0,
        validation_alias=env("RECORD_TTL_S"),
        description="Seconds after which a job whose result has expired is forgotten.",
    )
    asset_ttl_s: float = Field(
        default=86400.0,
        gt=0,
        validation_alias=env("ASSET_TTL_S"),
        description="Seconds that an uploaded asset is kept.",
    )
    asset_max_bytes: int = Field(
        default=2 * 1024 * 1024 * 1024,
        gt=0,
        validation_alias=env("ASSET_MAX_BYTES"),
        description="Largest asset in bytes that may be uploaded.",
    )
