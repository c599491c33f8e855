"""URLs that a request wants us to ask: read strictly, so that no two readers understand them differently."""

from __future__ import annotations

import re

from yarl import URL

_MAX_CHARS = 8192
_ODD = re.compile(r"[\x00-\x20\x7f\\]")
_PLAIN = re.compile(r"[\x21-\x7e]+")


class TargetRefused(Exception):
    """Why a URL is not asked, in words that may be shown."""

    def __init__(self, reason: str, *, has_credentials: bool = False) -> None:
        """Keep the reason, as `is not a URL that can be read`."""
        super().__init__(reason)
        self.reason = reason
        self.has_credentials = has_credentials


def parse_target(url: str, base: URL | None = None, *, allow_credentials: bool = False) -> URL:
    """Return an http(s) URL that may be asked, without its fragment; its address is not looked at yet.

    Args:
        url: The text of the URL.
        base: What a relative one is relative to, as where a redirect came from.
        allow_credentials: Take a user name and a password in it.

    Raises:
        TargetRefused: it is no such URL, or has a user name or password in it that it may not have. No part of the
            error shows the URL.
    """
    try:
        parsed = _read(url.strip(), base)
    except ValueError:
        raise TargetRefused("is not a URL that can be read") from None  # The chain would show the URL.
    if "@" in parsed.raw_authority and not allow_credentials:
        raise TargetRefused("has a user name or password in it, which is not taken", has_credentials=True)
    return parsed.with_fragment(None)


def _read(text: str, base: URL | None) -> URL:
    if not text or len(text) > _MAX_CHARS or _ODD.search(text):
        raise ValueError
    # Presigned URLs are signed as they are written, so a plain one is sent as it is.
    parsed = URL(text, encoded=_PLAIN.fullmatch(text) is not None)
    if base is not None:
        parsed = base.join(parsed)
    # yarl reads the host and port of an encoded URL only here.
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.port is None:
        raise ValueError
    return parsed
