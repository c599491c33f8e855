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
    mode: Literal["test", "serverless", "pod"] | None = Field(
        default=None,
        validation_alias=env("MODE_TO_RUN"),
        description="What `comfyworker start` does, as images for RunPod are told: `test` runs one job as "
        "`comfyworker test` does, and ends; `serverless` is WORKER_HOST=runpod, `pod` is WORKER_HOST=http.",
    )
    serve_api_locally: bool = Field(
        default=False,
        validation_alias=env("SERVE_API_LOCALLY"),
        description="Have `comfyworker start` serve HTTP for whoever develops on this machine. In a container it "
        "listens on all addresses, and without API_KEYS, so that a mapped port reaches it (map it as "
        "`127.0.0.1:8000:8000`); not on RunPod or Vast.ai. SERVE_HOST and SERVE_PORT go before that.",
    )
    runpod_pod_id: str | None = Field(
        default=None,
        validation_alias=env("RUNPOD_POD_ID"),
        description="Set by RunPod, in pods and in serverless workers.",
    )
    runpod_endpoint_id: str | None = Field(
        default=None,
        validation_alias=env("RUNPOD_ENDPOINT_ID"),
        description="Set by RunPod in serverless workers, those of load balancing endpoints included.",
    )
    vast_label: str | None = Field(
        default=None,
        validation_alias=env("VAST_CONTAINERLABEL"),
        description="Set by Vast.ai in every instance, whether it is a serverless worker or not.",
    )

    @field_validator("host", "mode", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value
