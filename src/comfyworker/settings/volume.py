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
    local_cache_gb: float = Field(
        default=0.0,
        ge=0,
        validation_alias=env("LOCAL_MODEL_CACHE_GB"),
        description="What copies of models on the local disk may take together, in gigabytes; those that were used "
        "least recently make room for others. 0 is no copies.",
    )
    prefetch: Literal["off", "readahead", "copy"] | None = Field(
        default=None,
        validation_alias=env("PREFETCH_MODELS"),
        description="Bring models nearer before ComfyUI loads them: those of waiting jobs, of the last jobs, of "
        "config.yml. `readahead` reads them into the memory that is free, `copy` copies them from volumes to the local "
        "disk, as far as LOCAL_MODEL_CACHE_GB lets it. No job waits for that. Without it, `copy` where "
        "LOCAL_MODEL_CACHE_GB is set, else `off`.",
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

    @field_validator("prefetch")
    @classmethod
    def _fits_cache(cls, value: str | None, info: ValidationInfo) -> str | None:
        size_gb = info.data.get("local_cache_gb")  # absent if it was wrong itself
        if value == "copy" and size_gb == 0:
            message = "copy needs LOCAL_MODEL_CACHE_GB, which says how much may be copied"
            raise ValueError(message)
        if value in ("off", "readahead") and size_gb:
            message = f"{value} copies nothing, but LOCAL_MODEL_CACHE_GB is set; unset one of them"
            raise ValueError(message)
        return value

    @property
    def prefetch_mode(self) -> Literal["off", "readahead", "copy"]:
        """How models are brought nearer."""
        return self.prefetch or ("copy" if self.local_cache_gb else "off")

    @property
    def local_cache_bytes(self) -> int:
        """What copies may take together."""
        return int(self.local_cache_gb * _BYTES_PER_GB)

    @property
    def local_cache_path(self) -> Path:
        """The folder for copies that is meant; it need not exist yet."""
        base = self.xdg_cache_home or Path("~/.cache")
        return (self.local_cache_dir or base / "comfyworker" / "models").expanduser().absolute()
