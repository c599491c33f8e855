"""Nodes that make pictures and other outputs."""

import base64
import json
from pathlib import Path

import folder_paths
import numpy as np
import torch


def size_inputs():
    """Return the inputs that say how large a picture is and how many of it."""
    return {
        "width": ("INT", {"default": 64, "min": 1, "max": 16_384}),
        "height": ("INT", {"default": 64, "min": 1, "max": 16_384}),
        "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
    }


class TestNoise:
    """Make random pixels, which no format compresses."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {**size_inputs(), "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1})}}

    def make(self, width, height, batch_size, seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (batch_size, height, width, 3), dtype=np.uint8)
        return (torch.from_numpy(pixels).float().div_(255.0),)


class TestColour:
    """Make a picture of one colour, by which a test tells whose it is."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        part = ("INT", {"default": 0, "min": 0, "max": 255})
        return {"required": {**size_inputs(), "red": part, "green": part, "blue": part}}

    def make(self, width, height, batch_size, red, green, blue):
        colour = torch.tensor([red, green, blue], dtype=torch.float32) / 255.0
        return (colour.expand(batch_size, height, width, 3).contiguous(),)


class TestModelFile:
    """Load a model file as loaders of custom packs do: its list is ComfyUI's, and its folder in no table."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"some_model": (folder_paths.get_filename_list("upscale_models"),)}}

    def make(self, some_model):
        size = Path(folder_paths.get_full_path_or_raise("upscale_models", some_model)).stat().st_size
        return (torch.full((1, 8, 8, 3), (size % 256) / 255.0),)


class TestOutputs:
    """Write files and report them under any keys, as the output nodes of custom packs do.

    `report` is JSON: `{"gifs": [{"filename", "subfolder"?, "type"?, "content"? | "base64"? | "size_bytes"?}], "text":
    ["…"]}`. A file without content, base64 or size is reported but not written. Whatever is no object with a filename
    is reported as it is.
    """

    CATEGORY = "tests"
    FUNCTION = "write"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"report": ("STRING", {"default": "{}", "multiline": True})},
            "optional": {"image": ("IMAGE",)},
        }

    def write(self, report, image=None):
        return {
            "ui": {
                key: [self._entry(item) for item in items] if isinstance(items, list) else items
                for key, items in json.loads(report).items()
            }
        }

    def _entry(self, item):
        if not isinstance(item, dict) or "filename" not in item:
            return item
        entry = {"subfolder": "", "type": "output", **item}
        content = self._content(entry)
        if content is not None:
            folder = Path(folder_paths.get_directory_by_type(entry["type"])) / entry["subfolder"]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / entry["filename"]).write_bytes(content)
        return entry

    @staticmethod
    def _content(entry):
        text, encoded, size = (entry.pop(name, None) for name in ("content", "base64", "size_bytes"))
        if text is not None:
            return text.encode()
        if encoded is not None:
            return base64.b64decode(encoded)
        return None if size is None else bytes(size)
