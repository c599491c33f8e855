"""Input files: decoded, checked, and placed where ComfyUI finds them."""

from comfyworker.inputs.prepare import DecodedFile, prepare_files
from comfyworker.inputs.store import InputStore, PlacedFiles

__all__ = ["DecodedFile", "InputStore", "PlacedFiles", "prepare_files"]
