"""Artifacts on their way out."""

from comfyworker.delivery.inline import encode_file
from comfyworker.delivery.json_stream import iter_json

__all__ = ["encode_file", "iter_json"]
