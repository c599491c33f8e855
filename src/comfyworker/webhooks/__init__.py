"""Webhooks: who is told of a job, in what words, and until it was heard."""

from comfyworker.webhooks.hook import Hook
from comfyworker.webhooks.webhooks import Webhooks

__all__ = ["Hook", "Webhooks"]
