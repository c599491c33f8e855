"""What no text that leaves the worker may hold: directories of its machine, and secrets."""

from __future__ import annotations

import re

_PATH = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?[\\/](?:[^\\/\s:*?\"'<>|,()\[\]]+[\\/])+")
_SECRET = re.compile(
    r"(?i)\b((?:api[_-]?key|token|secret|password|authorization|signature)[\"']?\s*[=:]\s*(?:bearer\s+)?)[\"']?[^\s\"'&,;]+"
)
_QUERY = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']+")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


def redact(text: str) -> str:
    """Return `text` without directories of paths, query strings and passwords of URLs, and values that look secret.

    A file's own name stays: it is what tells the reader which model or node was meant.
    """
    text = hide_queries(hide_credentials(text))
    text = _SECRET.sub(r"\1…", text)
    return _PATH.sub("…/", text)


def hide_queries(text: str) -> str:
    """Return `text` with the query strings of URLs cut out: they may hold tokens and signatures."""
    return _QUERY.sub(r"\1?…", text)


def hide_credentials(text: str) -> str:
    """Return `text` with user names and passwords cut out of URLs."""
    return _CREDENTIALS.sub(r"\1…@", text)
