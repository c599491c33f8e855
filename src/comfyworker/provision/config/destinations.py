"""Where models may go: ComfyUI's folders by their names and aliases, or a folder below one; nowhere else."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from comfyworker.comfyui.model_kinds import core_folders, kind_of_folder, nearest_folder

_ALIASES = {
    "checkpoint": "checkpoints",
    "ckpt": "checkpoints",
    "ckpts": "checkpoints",
    "diffusion_model": "diffusion_models",
    "lora": "loras",
    "text_encoder": "text_encoders",
    "embedding": "embeddings",
    "control_net": "controlnet",
    "controlnets": "controlnet",
    "upscale": "upscale_models",
    "upscaler": "upscale_models",
    "upscale_model": "upscale_models",
    "vaes": "vae",
    "clipvision": "clip_vision",
    "style_model": "style_models",
    "hypernetwork": "hypernetworks",
}
"""Words that people and other tools write for a folder. `clip` and `unet` are folders of ComfyUI's own."""
_SEGMENT = re.compile(r"^[^/\\\x00-\x1f]+$")
_WINDOWS_DRIVE = re.compile(r"^[A-Za-z]:")
_FOLDER_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*$")


class WrongDestination(ValueError):
    """A destination that no model may go to; the text says why, `suggestion` what was likely meant."""

    def __init__(self, why: str, suggestion: str | None = None) -> None:
        """Keep both."""
        super().__init__(why)
        self.suggestion = suggestion


def resolve_destination(written: str) -> str:
    """Return the folder below ComfyUI's models folder that a destination means, as `loras/wan`.

    A leading `models/` or `ComfyUI/models/` is understood, as are the usual aliases of the first folder's name.
    A folder that no ComfyUI knows is taken when its name could be a custom node's (`ipadapter-flux`), unless it looks
    like a misspelling of one that ComfyUI does know.

    Raises:
        WrongDestination: it is empty, leads out of the models folder, or looks like a misspelling.
    """
    plain = written.strip().replace("\\", "/")
    if plain.startswith(("/", "~")) or _WINDOWS_DRIVE.match(plain):
        raise WrongDestination("is not a folder below ComfyUI's models folder, as `checkpoints` or `loras/wan`")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    while parts and parts[0].lower() in ("comfyui", "models"):
        parts.pop(0)
    if not parts:
        raise WrongDestination("names no folder; ComfyUI's are checkpoints, loras, vae, diffusion_models, …")
    if ".." in parts or not all(_SEGMENT.match(part) for part in parts):
        raise WrongDestination("leads out of ComfyUI's models folder")
    return str(PurePosixPath(_first(parts[0]), *parts[1:]))


def _first(name: str) -> str:
    if name in core_folders() or kind_of_folder(name) is not None:
        return name
    alias = _ALIASES.get(name.lower().replace("-", "_"))
    if alias is not None:
        return alias
    near = nearest_folder(name)
    if near is not None:
        raise WrongDestination(f"'{name}' is no folder of ComfyUI; did you mean '{near}'?", near)
    if not _FOLDER_NAME.match(name):
        raise WrongDestination(f"'{name}' is no name for a folder of models")
    return name
