"""Which model files a workflow names."""

from __future__ import annotations

from comfyworker.jobs import Graph

MODEL_EXTENSIONS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".onnx", ".pkl")
"""Endings of the files that ComfyUI and its usual custom nodes list as models (ComfyUI `folder_paths.py`), and GGUF."""


def is_model_name(value: object) -> bool:
    """Tell whether `value` is text that ends as a model file's name does."""
    return isinstance(value, str) and value.lower().endswith(MODEL_EXTENSIONS)


def model_files(graph: Graph) -> frozenset[str]:
    """Return the names of the model files in the graph's inputs, as they are written there.

    Nothing is known of the classes here, so every text counts that ends in a model file's extension.
    """
    return frozenset(value for node in graph.values() for value in node["inputs"].values() if is_model_name(value))
