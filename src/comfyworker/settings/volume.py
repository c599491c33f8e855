"""The settings of the disk that models are on."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from comfyworker.settings.groups import Group, env


class VolumeSettings(Group):
    """Where models lie beside ComfyUI's own folder."""

    models_path: Path | None = Field(
        default=None,
        validation_alias=env("MODELS_PATH"),
        description="Folder with more models: one with a subfolder for each kind (checkpoints, loras, …), or a volume "
        "that holds `models` or `ComfyUI/models`. RunPod's `/runpod-volume` and `/workspace` are found without it, and "
        "`./workspace` where there is nothing else.",
    )
    debug: bool = Field(
        default=False,
        validation_alias=env("NETWORK_VOLUME_DEBUG"),
        description="Log at the start which volumes were found, which models lie on them by kind, and which files "
        "ComfyUI will not find or cannot load.",
    )
