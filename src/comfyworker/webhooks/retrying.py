"""Sending messages once more because a person asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from comfyworker.finishing import in_thread
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.outbox import PendingMessage, StoredMessage, Taken
from comfyworker.webhooks.sending import Outcome, Sender


class Retried(NamedTuple):
    """What came of one message."""

    message: PendingMessage
    outcome: Literal["delivered", "busy", "gone", "failed"]
    reason: str

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be done for it."""
        return self.outcome in {"delivered", "gone"}


async def retry_now(
    messages: Sequence[PendingMessage], settings: WebhookSettings, *, allow_private_urls: bool
) -> list[Retried]:
    """Send each message once, whenever it would be due; what is delivered is removed, the rest stays as it is.

    Args:
        messages: What is sent, one after the other.
        settings: The worker's own secret.
        allow_private_urls: Whether requests may name webhooks in private networks.
    """
    async with Sender(settings.secret, allow_private_urls=allow_private_urls) as sender:
        return [await _retry(item, sender) for item in messages]


async def _retry(item: PendingMessage, sender: Sender) -> Retried:
    stored = StoredMessage(item.path, item.envelope)
    try:
        taken = await in_thread(stored.take)
        if taken is None:
            return Retried(item, "gone", "it was delivered or given up meanwhile")
        verdict = await sender.send(taken[0])
        if verdict.outcome is not Outcome.TAKEN:
            return Retried(item, "failed", verdict.reason)
        await in_thread(stored.remove)
        return Retried(item, "delivered", verdict.reason)
    except Taken:
        return Retried(item, "busy", "a worker is sending it right now")
    except OSError:
        return Retried(item, "failed", "its file cannot be read or removed")
    finally:
        stored.release()
