"""The modifiers that come with the worker, as JSON files in this folder, and those of the worker's owner."""

from comfyworker.modifiers.loading import load_modifiers

__all__ = ["load_modifiers"]
