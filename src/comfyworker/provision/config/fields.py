"""Single values of a config.yml, each taken or told to be wrong, with its line and key."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from comfyworker.errors import Problem
from comfyworker.provision.config.document import Value
from comfyworker.redaction import hide_credentials
from comfyworker.wording import nearest, quote

_SHA256 = re.compile(r"^(?:sha256:)?([0-9a-fA-F]{64})$")
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtT]?)(i?)[bB]?$")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_PATH_BEGINS = ("/", "./", "../", "~/")
_SCHEMES = ("https", "http", "s3", "r2", "file", "hf")
_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


class Findings:
    """What is wrong with a config, gathered so that all of it is told at once."""

    def __init__(self, name: str) -> None:
        """Know what messages call the file."""
        self.name = name
        self.problems: list[Problem] = []

    def add(self, line: int, path: str, what: str, *, code: str, suggestion: str | None = None) -> None:
        """Note one fault; `what` follows the key in the sentence."""
        message = f"{self.name}, line {line}: {path} {what}"
        self.problems.append(Problem(message=message, code=code, path=path, suggestion=suggestion))

    def unknown_key(self, line: int, path: str, key: str, known: Collection[str]) -> None:
        """Note a key that means nothing here."""
        close = nearest(key, known).suggestion
        meant = f"; did you mean '{close}'?" if close else f"; known are {', '.join(known)}"
        self.add(line, path, f"is no key that is known here{meant}", code="unknown_key", suggestion=close)


def kind_of(value: Value) -> str:
    """Return in a reader's words what sort of value there is."""
    if value.content is None:
        return "nothing"
    return _WORDS.get(type(value.content), "a date")


def text(value: Value, path: str, found: Findings) -> str | None:
    """Return text that is not empty. A number stands for itself: tags and versions look like numbers."""
    content = value.content
    if isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    if not isinstance(content, str):
        found.add(value.line, path, f"must be text, and is {kind_of(value)}", code="wrong_type")
        return None
    if not content.strip():
        found.add(value.line, path, "is empty", code="invalid_value")
        return None
    return content.strip()


def flag(value: Value, path: str, found: Findings) -> bool:
    """Return true or false."""
    if isinstance(value.content, bool):
        return value.content
    found.add(value.line, path, f"must be true or false, and is {kind_of(value)}", code="wrong_type")
    return False


def sha256(value: Value, path: str, found: Findings) -> str | None:
    """Return a digest's 64 digits."""
    match = _SHA256.match(str(value.content).strip()) if isinstance(value.content, str | int) else None
    if match:
        return match.group(1).lower()
    found.add(value.line, path, "must be the 64 hexadecimal digits of a SHA-256", code="invalid_value")
    return None


def size(value: Value, path: str, found: Findings) -> int | None:
    """Return bytes: a number, or text with a unit as `4.2 GB` (1000s) and `4 GiB` (1024s)."""
    content, bytes_ = value.content, 0
    if isinstance(content, int | float) and not isinstance(content, bool) and math.isfinite(content):
        bytes_ = math.floor(content)
    elif isinstance(content, str) and (match := _SIZE.match(content.strip())) is not None:
        factor: int = (1024 if match.group(3) else 1000) ** _POWERS[match.group(2).lower()]
        bytes_ = round(float(match.group(1)) * factor)
    if bytes_ < 1:
        found.add(value.line, path, "must be a number of bytes, as 6938041050, or '6.9 GB'", code="invalid_value")
        return None
    return bytes_


def url(value: Value, path: str, found: Findings) -> str | None:
    """Return where a model comes from: a URL of a kind that is known, or a path."""
    written = text(value, path, found)
    if written is None or written.startswith(_PATH_BEGINS):
        return written
    fault = _url_fault(written)
    if fault is not None:
        what, code = fault
        found.add(value.line, path, what, code=code)
    return written if fault is None else None


def _url_fault(written: str) -> tuple[str, str] | None:
    scheme, separator, rest = written.partition("://")
    shown = quote(hide_credentials(written))
    if not separator:
        return f"must be a URL, and is {shown}; a file's path begins with / or ./", "invalid_url"
    if scheme.lower() not in _SCHEMES or not rest.strip("/"):
        return f"is no URL of a kind that is known ({', '.join(_SCHEMES)}): {shown}", "invalid_url"
    try:
        parts = urlsplit(written)
        is_whole = parts.port is not False and not any(sign.isspace() for sign in written)
    except ValueError:
        is_whole = False
    if not is_whole:
        return f"is no whole URL: {shown}", "invalid_url"
    if parts.password is not None:
        return "holds a password; give it by an environment variable or in .secrets, as HF_TOKEN", "secret_in_config"
    return None


def filename(value: Value, path: str, found: Findings) -> str | None:
    """Return the name of a file, without any folder."""
    written = text(value, path, found)
    if written is not None and (re.search(r"[/\\\x00-\x1f]", written) or written in (".", "..")):
        found.add(value.line, path, "must be a file's name alone; `destination` says the folder", code="invalid_value")
        return None
    return written
