"""The names by which dialects are chosen."""

from __future__ import annotations

from typing import Final

WORKER_COMFYUI: Final = "worker-comfyui"
URLS: Final = "urls"
FLUX: Final = "flux"
PYWORKER: Final = "pyworker"

DIALECT_NAMES: Final = (WORKER_COMFYUI, URLS, FLUX, PYWORKER)
"""All of them; the first is spoken where nothing else is asked for."""
