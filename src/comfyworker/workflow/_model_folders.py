"""Which folder of ComfyUI's models a loader's input reads: what `/object_info` does not tell."""

from __future__ import annotations

import re

_SUFFIX = re.compile(r"((DisTorch2?)?MultiGPU|DisTorch2?)$")
"""What ComfyUI-MultiGPU appends to the classes that it wraps."""
_NUMBERED = re.compile(r"_?\d+$")

_BY_CLASS: dict[str, dict[str, str]] = {
    "CheckpointLoader": {"ckpt_name": "checkpoints", "config_name": "configs"},
    "CheckpointLoaderSimple": {"ckpt_name": "checkpoints"},
    "unCLIPCheckpointLoader": {"ckpt_name": "checkpoints"},
    "ImageOnlyCheckpointLoader": {"ckpt_name": "checkpoints"},
    "CLIPVisionLoader": {"clip_name": "clip_vision"},
    "DiffControlNetLoader": {"control_net_name": "controlnet"},
    "UpscaleModelLoader": {"model_name": "upscale_models"},
    "LatentUpscaleModelLoader": {"model_name": "latent_upscale_models"},
    "ModelPatchLoader": {"name": "model_patches"},
    "AudioEncoderLoader": {"audio_encoder_name": "audio_encoders"},
    "LTXAVTextEncoderLoader": {"text_encoder": "text_encoders", "ckpt_name": "checkpoints"},
    "LoadBackgroundRemovalModel": {"bg_removal_name": "background_removal"},
    "FrameInterpolationModelLoader": {"model_name": "frame_interpolation"},
    "OpticalFlowLoader": {"model_name": "optical_flow"},
    "LoadMoGeModel": {"model_name": "geometry_estimation"},
    "LoadDA3Model": {"model_name": "geometry_estimation"},
    "ConditioningLoader": {"conditioning_name": "embeddings"},
    "Hy3DModelLoader": {"model": "diffusion_models"},
    "Hy3DVAELoader": {"model_name": "vae"},
    "IPAdapterModelLoader": {"ipadapter_file": "ipadapter"},
    "IPAdapterFluxLoader": {"ipadapter": "ipadapter-flux", "clip_vision": "clip_vision"},
    "InstantIDModelLoader": {"instantid_file": "instantid"},
    "PulidModelLoader": {"pulid_file": "pulid"},
    "WanVideoModelLoader": {"model": "diffusion_models"},
    "HyVideoModelLoader": {"model": "diffusion_models"},
    "WanVideoVAELoader": {"model_name": "vae"},
    "HyVideoVAELoader": {"model_name": "vae"},
    "WanVideoLoraSelect": {"lora": "loras"},
    "HyVideoLoraSelect": {"lora": "loras"},
    "LoadWanVideoT5TextEncoder": {"model_name": "text_encoders"},
    "SAMLoader": {"model_name": "sams"},
    "OnnxDetectionModelLoader": {"vitpose_model": "detection", "yolo_model": "detection", "model_name": "detection"},
    "DiffusionModelLoaderKJ": {"model_name": "diffusion_models"},
    "Power Lora Loader (rgthree)": {"lora": "loras"},
    "Lora Loader Stack (rgthree)": {"lora": "loras"},
    "LoraLoaderStack": {"lora": "loras"},
}
_WHOLE_FOLDERS = {"IPAdapterFluxLoader": "clip_vision"}
"""Inputs that name no file but a folder of files, which the class reads with transformers."""
_BY_INPUT = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "vae_name": "vae",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
}
"""Names that mean the same in every class that has them."""


def names_folder(class_type: str, input_name: str) -> bool:
    """Tell whether an input names a folder of models' files, as `siglip-so400m-patch14-384`, instead of a file."""
    return _WHOLE_FOLDERS.get(class_type) == input_name


def folder_of(class_type: str, input_name: str, name: str) -> str | None:
    """Return the folder that holds the file `name` for this input, or None if that is not known."""
    plain = _SUFFIX.sub("", class_type)
    base = _NUMBERED.sub("", input_name)
    if plain == "UltralyticsDetectorProvider" and name.startswith(("bbox/", "segm/")):
        return f"ultralytics/{name.partition('/')[0]}"
    if plain.startswith("Nunchaku") and plain.endswith("DiTLoader"):
        return "diffusion_models" if base in ("model_path", "model_name") else None
    folders = _BY_CLASS.get(plain, {})
    folder = folders.get(input_name) or folders.get(base) or _BY_INPUT.get(base)
    # ComfyUI's previewers are loaded as VAEs from a folder of their own.
    return "vae_approx" if folder == "vae" and name.startswith("tae") else folder
