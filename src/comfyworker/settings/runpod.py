"""The settings of `comfyworker runpod`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env


class RunPodSettings(Group):
    """How jobs of RunPod Serverless are run."""

    job_take_url: SecretStr | None = Field(
        default=None,
        validation_alias=env("RUNPOD_WEBHOOK_GET_JOB"),
        description="URL where jobs are taken; RunPod sets it, and where it is not set the worker is not on RunPod "
        "Serverless.",
    )
    refresh_worker: bool = Field(
        default=False,
        validation_alias=env("REFRESH_WORKER"),
        description="Have RunPod start the worker anew after each job; it takes one job at a time then.",
    )
    stream_outputs: bool = Field(
        default=False,
        validation_alias=env("STREAM_OUTPUTS"),
        description="Give progress and artifacts to RunPod's `/stream` as they come.",
    )
    progress_interval_s: float = Field(
        default=1.0,
        gt=0,
        validation_alias=env("RUNPOD_PROGRESS_INTERVAL_S"),
        description="Seconds between two reports of a job's progress to RunPod, at least; the latest one wins.",
    )
    log_level: Literal["NOTSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR"] = Field(
        default="WARN",
        validation_alias=env("RUNPOD_LOG_LEVEL"),
        description="How much of what RunPod's SDK says goes into the worker's log; `NOTSET` is nothing. From `INFO` "
        "on it has five lines for each job, beside the worker's own.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value
