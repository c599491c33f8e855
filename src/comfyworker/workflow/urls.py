"""URLs in the place of files: which texts are such URLs, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_URL = re.compile(r"\s*https?://", re.IGNORECASE)
_MAX_HOST_CHARS = 100


def is_url(text: str) -> bool:
    """Tell whether a text that stands for a file is an http or https URL."""
    return _URL.match(text) is not None


def shown_url(url: str) -> str:
    """Return what an answer or a log may say of a URL: its scheme and host.

    Presigned URLs carry their secret in the query, others in the path, so neither is ever shown.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "a URL"
    # The host is the caller's text too: in a mangled URL, half the query may pass for one.
    if not host or len(host) > _MAX_HOST_CHARS or not re.fullmatch(r"[\w.:\-]+", host):
        return "a URL"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}/…"


def shown_name(name: str) -> str:
    """Return a file's name as an answer or a log may show it: a URL may stand for one."""
    return shown_url(name) if is_url(name) else name


def file_name(name: str) -> str:
    """Return the name that says what sort of file it should be: of a URL, the last part of its path."""
    if not is_url(name):
        return name
    try:
        return urlsplit(name.strip()).path.rpartition("/")[2]
    except ValueError:
        return ""
