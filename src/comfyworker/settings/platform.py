"""The settings that say which host the worker is, and what the platforms tell it of where it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from comfyworker.settings.groups import Group, env


class PlatformSettings(Group):
    """Which host `comfyworker start` runs."""

    host: Literal["auto", "runpod", "vast", "http"] = Field(
        default="auto",
        validation_alias=env("WORKER_HOST"),
        description="Host that `comfyworker start` runs: `runpod`, `vast` or `http`; `auto` finds out from the "
        "variables that RunPod and Vast.ai set.",
    )

    @field_validator("host", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value
