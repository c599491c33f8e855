"""The settings of the disk that models are on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from comfyworker.settings.groups import Group, env

_BYTES_PER_GB = 1_000_000_000


class VolumeSettings(Group):
    """Where models lie beside ComfyUI's own folder, and how they are brought nearer."""

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
    prefetch: Literal["off", "readahead", "copy"] = Field(
        default="off",
        validation_alias=env("PREFETCH_MODELS"),
        description="Bring models nearer before ComfyUI loads them: those of waiting jobs, of the last jobs, of "
        "config.yml. `readahead` reads them into the memory that is free, `copy` copies them from volumes to the local "
        "disk. No job waits for that.",
    )
    local_cache_gb: float = Field(
        default=0.0,
        ge=0,
        validate_default=True,
        validation_alias=env("LOCAL_MODEL_CACHE_GB"),
        description="What the copies of PREFETCH_MODELS=copy may take together, in gigabytes; those that were used "
        "least recently make room for others.",
    )
    local_cache_dir: Path | None = Field(
        default=None,
        validation_alias=env("LOCAL_MODEL_CACHE_DIR"),
        description="Folder for these copies, on a local disk; without it, `comfyworker/models` in XDG_CACHE_HOME or "
        "in ~/.cache. Workers of one machine may share it.",
    )
    xdg_cache_home: Path | None = Field(
        default=None,
        validation_alias=env("XDG_CACHE_HOME"),
        description="Where programs of this user keep what they can make again; used where LOCAL_MODEL_CACHE_DIR is "
        "not set.",
    )

    @field_validator("prefetch", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("local_cache_gb")
    @classmethod
    def _fits_prefetch(cls, value: float, info: ValidationInfo) -> float:
        prefetch = info.data.get("prefetch")  # absent if it was wrong itself
        if prefetch == "copy" and value == 0:
            message = "must be above 0 where PREFETCH_MODELS is copy: nothing could be copied"
            raise ValueError(message)
        if prefetch in ("off", "readahead") and value > 0:
            message = f"must be unset where PREFETCH_MODELS is {prefetch}: only copy copies models"
            raise ValueError(message)
        return value

    @property
    def local_cache_bytes(self) -> int:
        """What copies may take together."""
        return int(self.local_cache_gb * _BYTES_PER_GB)

    @property
    def local_cache_path(self) -> Path:
        """The folder for copies that is meant; it need not exist yet."""
        base = self.xdg_cache_home or Path("~/.cache")
        return (self.local_cache_dir or base / "comfyworker" / "models").expanduser()
