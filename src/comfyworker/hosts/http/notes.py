"""What the APIs note of a job beside its request (`Submission.meta`), for when its end is told."""

from __future__ import annotations

from typing import Final

BASE_URL: Final = "base_url"
"""The URL under which its client reached us: webhooks have URLs of its files below it."""
RUNPOD_WEBHOOK: Final = "runpod_webhook"
"""True where its webhook was named as RunPod's clients do, and is told in RunPod's words."""
