"""What a real ComfyUI said of its classes, and of workflows that it refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses

RECORDED = Path(__file__).parents[2] / "recorded"


@pytest.fixture(scope="session")
def object_info() -> dict[str, Any]:
    """Return some classes of ComfyUI 0.3.75, which had two checkpoints, 14 LoRAs and one input picture."""
    info: dict[str, Any] = json.loads((RECORDED / "object_info.json").read_text())["object_info"]
    return info


@pytest.fixture(scope="session")
def classes(object_info: dict[str, Any]) -> NodeClasses:
    """Return these classes."""
    return NodeClasses(object_info)


@pytest.fixture(scope="session")
def recorded_errors() -> dict[str, dict[str, Any]]:
    """Return by name: a workflow, and the status and body with which ComfyUI 0.3.75 answered it."""
    cases: dict[str, dict[str, Any]] = json.loads((RECORDED / "prompt_errors.json").read_text())["cases"]
    return cases


@pytest.fixture
def graph() -> Graph:
    """Return a workflow that the recorded ComfyUI takes: text to image with a LoRA, and a picture blended in."""
    return copy.deepcopy(_GRAPH)


_GRAPH: Graph = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dreamshaper_8.safetensors"}},
    "2": {
        "class_type": "LoraLoader",
        "inputs": {
            "model": ["1", 0],
            "clip": ["1", 1],
            "lora_name": "style_01.safetensors",
            "strength_model": 1,
            "strength_clip": 1.0,
        },
    },
    "3": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a cat", "clip": ["2", 1]},
        "_meta": {"title": "Positive"},
    },
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["2", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "6": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["2", 0],
            "positive": ["3", 0],
            "negative": ["4", 0],
            "latent_image": ["5", 0],
            "seed": 1,
            "steps": 4,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        },
    },
    "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
    "8": {"class_type": "LoadImage", "inputs": {"image": "example.png"}, "_meta": {"title": "Load Image"}},
    "9": {
        "class_type": "ImageBlend",
        "inputs": {"image1": ["8", 0], "image2": ["7", 0], "blend_factor": 0.5, "blend_mode": "normal"},
    },
    "10": {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": "out"}},
}
