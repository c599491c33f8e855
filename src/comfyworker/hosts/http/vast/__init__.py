"""Vast-shaped routes: what clients of Vast's ComfyUI PyWorker call, on this server."""

from comfyworker.hosts.http.vast.routes import API, api_behind

__all__ = ["API", "api_behind"]
