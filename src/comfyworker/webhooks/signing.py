"""Signatures by which a receiver knows that a webhook is ours and whole.

Standard Webhooks (https://www.standardwebhooks.com), and the header that clients of comfyui-api-wrapper verify.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from standardwebhooks import Webhook


def make_headers(message_id: str, body: bytes, *, secret: SecretStr | None, now: float) -> dict[str, str]:
    """Return the headers of one attempt; unsigned without a secret.

    Args:
        message_id: The same on each attempt.
        body: The very bytes that are sent.
        secret: `whsec_` and base64, or base64; anything else is a key as it stands.
        now: Seconds of Unix time, of this attempt: receivers refuse old ones.
    """
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
    }
    text = "" if secret is None else secret.get_secret_value()
    if text:
        moment = datetime.fromtimestamp(int(now), tz=UTC)
        headers["webhook-signature"] = _signer(text).sign(message_id, moment, body.decode())
        # Keyed with the secret's text, `whsec_` included, as its clients do.
        digest = hmac.new(text.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Webhook-Signature"] = f"sha256={digest}"
    return headers


def _signer(secret: str) -> Webhook:
    from standardwebhooks import Webhook  # noqa: PLC0415

    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")  # as the library does: extra padding is skipped
    except ValueError:
        key = b""
    return Webhook(key or secret.encode())
