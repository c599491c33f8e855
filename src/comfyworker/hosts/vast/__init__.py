"""The worker on Vast.ai: the PyWorker protocol, spoken natively."""

from comfyworker.hosts.vast.serving import serve

__all__ = ["serve"]
