"""Vast-shaped routes: what clients of Vast's ComfyUI PyWorker call, on this server."""

from comfyworker.hosts.http.vast.routes import API

__all__ = ["API"]
