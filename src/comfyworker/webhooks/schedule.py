"""When a message that was not taken is sent again."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

_PAUSES_S = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_JITTER = 0.2


def pause_after(attempts: int) -> float:
    """Return the seconds to wait after so many failed attempts: growing, and never quite the same."""
    pause_s = _PAUSES_S[min(attempts, len(_PAUSES_S)) - 1]
    return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # spreads load, keeps no secret


def read_retry_after(text: str | None, *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it asks for nothing that can be read.

    Args:
        text: Seconds, or a date (RFC 9110, section 10.2.3).
        now: Seconds of Unix time.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now)
    except (ValueError, OverflowError):
        return None
