"""Comfy API v2: jobs and assets as the official client, `comfy-sdk`, asks for them."""

from comfyworker.hosts.http.comfy_v2.routes import API

__all__ = ["API"]
