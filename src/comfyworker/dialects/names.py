"""The names by which dialects are chosen."""

from __future__ import annotations

from typing import Final

WORKER_COMFYUI: Final = "worker-comfyui"
URLS: Final = "urls"
FLUX: Final = "flux"
PYWORKER: Final = "pyworker"
COMFY_API_V2: Final = "comfy-api-v2"
"""Spoken under `/api/v2` only: no request asks for it."""

DIALECT_NAMES: Final = (WORKER_COMFYUI, URLS, FLUX, PYWORKER)
"""Those that a request may ask for; the first is spoken where nothing else is asked for."""
