"""The kinds of models that ComfyUI knows, and the folder names that hold each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

CORE_KINDS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "configs": ("configs",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "latent_upscale_models": ("latent_upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "classifiers": ("classifiers",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
}
"""ComfyUI's own kinds, each with the folders that it is looked for in (its `folder_paths.py`, 0.3.75)."""

LEGACY_NAMES: Mapping[str, str] = {"clip": "text_encoders", "unet": "diffusion_models"}
"""What two kinds were called once: a ComfyUI knows either these names or both (`folder_paths.map_legacy`)."""

OTHER_KINDS = frozenset(
    {
        "background_removal", "detection", "frame_interpolation", "geometry_estimation", "optical_flow",
        "BEN", "BiRefNet", "CogVideo", "Joy_caption", "LLM", "RMBG", "SEEDVR2", "TTS", "animatediff_models",
        "animatediff_motion_lora", "blip", "clip_gguf", "clipseg", "depthanything", "depthanything3",
        "dynamicrafter_models", "facedetection", "facerestore_models", "grounding-dino", "insightface",
        "inpaint", "instantid", "ipadapter", "ipadapter-flux", "layer_model", "liveportrait", "llm_gguf",
        "mmaudio", "mmdets", "nunchaku", "onnx", "prompt_generator", "pulid", "reactor", "rembg", "sam2",
        "sam3", "sams", "ultralytics", "unet_gguf", "vitmatte", "wav2vec2", "xlabs", "yolo",
    }
)  # fmt: skip
"""Folders of newer ComfyUIs and of widespread node packs.

They are named only where there is such a folder: a pack that finds its kind taken may leave its own folder out.
"""

NESTED_KINDS: Mapping[str, tuple[str, str]] = {
    "ultralytics_bbox": ("ultralytics", "bbox"),
    "ultralytics_segm": ("ultralytics", "segm"),
}
"""Kinds of packs that lie in a folder of another kind."""

NO_KINDS = frozenset({"custom_nodes"})
"""What may stand in a folder of models and is none."""

COMMON_NAMES = frozenset({"configs", "diffusers", "classifiers"})
"""Folders of kinds whose names are common for other things too: alone they tell nothing."""

MODEL_ENDINGS = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
"""The files that ComfyUI's own loaders offer (`folder_paths.supported_pt_extensions`)."""

PACK_ENDINGS = frozenset({".gguf", ".onnx", ".engine", ".trt", ".npz", ".task", ".tflite"})
"""The files that loaders of node packs offer."""

_FOLDERS = {folder: kind for kind, folders in CORE_KINDS.items() for folder in folders}


def kind_of_folder(name: str) -> str | None:
    """Return the kind of model that a folder of this name holds, or None if no kind has such a folder."""
    return _FOLDERS.get(name) or (name if name in OTHER_KINDS else None)


def core_folders() -> tuple[str, ...]:
    """Return the name of every folder that ComfyUI itself knows."""
    return tuple(_FOLDERS)


def nearest_folder(name: str, *, also: Sequence[str] = ()) -> str | None:
    """Return the folder that a wrong name, as `lora` or `Checkpoints`, is likely to mean; None if it is unlike all.

    Args:
        name: The name that was found.
        also: Names that may be meant besides those of kinds.
    """
    known = {folder.lower(): folder for folder in (*_FOLDERS, *OTHER_KINDS, *also) if folder not in COMMON_NAMES}
    plain = name.lower().replace("-", "_").replace(" ", "_")
    close = difflib.get_close_matches(plain, known, n=1, cutoff=0.8)
    return known[close[0]] if close and known[close[0]] != name else None
