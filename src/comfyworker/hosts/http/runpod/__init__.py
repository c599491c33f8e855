"""RunPod-shaped routes: what RunPod's own clients call, on this server."""

from comfyworker.hosts.http.runpod.routes import API

__all__ = ["API"]
