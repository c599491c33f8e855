"""The settings of `comfyworker runpod`."""

from __future__ import annotations

from pydantic import Field

from comfyworker.settings.groups import Group, env


class RunPodSettings(Group):
    """How jobs of RunPod Serverless are run."""

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
