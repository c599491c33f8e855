"""comfyworker: the worker that turns a ComfyUI into a dependable API."""

from comfyworker._version import __version__

__all__ = ["__version__"]
