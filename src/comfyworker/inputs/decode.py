"""Base64 and data URIs: text from a request into bytes."""

from __future__ import annotations

import binascii
import re
import unicodedata
from urllib.parse import unquote_to_bytes

import pybase64

from comfyworker.errors import InvalidRequest
from comfyworker.inputs._problems import beginning, refuse
from comfyworker.workflow.urls import is_url

_MAX_NAME_CHARS = 255
_MAX_URL_CHARS = 8192
_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)
_OTHER_URL = re.compile(r"\s*([a-z][a-z0-9+.\-]{1,20}):/", re.IGNORECASE)
_WHITESPACE = b" \t\r\n\v\f"
_LINE_ENDS = b"\r\n"
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_MAX_HEADER_CHARS = 1000
"""Characters in which a data URI must come to its comma, so that a text without one is not searched to its end."""


def decode_data(text: str, *, path: str, max_bytes: int) -> bytes:
    """Return the bytes that `text` holds as base64 or as a data URI.

    Line breaks, the URL-safe alphabet and missing padding are taken, since encoders differ in them.

    Args:
        text: What the caller sent.
        path: Where it stood in the request, for the error.
        max_bytes: Most bytes it may hold; looked at before anything is decoded.

    Raises:
        InvalidRequest: with the one problem of this text, which shows its beginning, never the whole.
    """
    data_uri = _DATA_URI.match(text)
    other_url = None if data_uri else _OTHER_URL.match(text)
    if other_url:
        raise refuse(
            f"{path} is a URL that begins with {other_url[1].lower()}:, which is not fetched from",
            code="url_not_taken",
            path=path,
            hint="Give an http:// or https:// URL, or send the file's bytes as base64.",
        )
    if data_uri is None:
        return _from_base64(text, path, max_bytes)
    start = text.find(",", data_uri.end(), data_uri.end() + _MAX_HEADER_CHARS) + 1
    if not start:
        raise _not_base64(f"{path} is a data URI without a comma before its data", path)
    parameters = text[data_uri.end() : start - 1].lower().split(";")[1:]
    payload = text[start:]
    if "base64" not in (parameter.strip() for parameter in parameters):
        return _from_percent_encoding(payload, path, max_bytes)
    return _from_base64(payload, path, max_bytes)


def check_name(name: str, *, path: str) -> None:
    """Refuse a name that no file in a folder can have; a plain subfolder (`a/b.png`) is fine.

    The name is a label that the workflow uses: no path on our disk is ever made from it. So a URL may stand for it.

    Raises:
        InvalidRequest: with what is wrong with the name.
    """
    parts = name.split("/")
    if is_url(name) and len(name) <= _MAX_URL_CHARS:
        return
    if not name.strip():
        fault = "is empty"
    elif len(name) > _MAX_NAME_CHARS:
        fault = f"has {len(name)} characters, more than the {_MAX_NAME_CHARS} that a file's name may have"
    elif name.startswith("/") or re.match(r"[A-Za-z]:", name):
        fault = "is an absolute path"
    elif "\\" in name:
        fault = "has a backslash in it"
    elif ".." in parts:
        fault = "leads out of its folder"
    elif parts[-1] in {"", "."}:
        fault = "names a folder, not a file"
    elif any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        fault = "has a control character in it"
    else:
        return
    what = "" if fault == "is empty" or is_url(name) else f"; it {beginning(name)}"
    raise refuse(
        f"{path} {fault}{what}",
        code="invalid_name",
        path=path,
        hint="Give the file a plain name, as input.png, and use the same one in the workflow.",
    )


def _from_base64(text: str, path: str, max_bytes: int) -> bytes:
    _check_base64_size(text, path, max_bytes)
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        # Not as the standard has it. The tolerant way copies the text several times, so it is the second one.
        data = _from_loose_base64(text, path)
    if not data:
        raise refuse(f"{path} is empty", code="empty_file", path=path)
    if len(data) > max_bytes:
        raise _too_large(path, len(data), max_bytes)
    return data


def _from_loose_base64(text: str, path: str) -> bytes:
    try:
        raw = text.encode("ascii")
        if b"%" in raw:
            raw = unquote_to_bytes(raw)  # A data URI may escape its `+`, `/` and `=`.
        # Spaces only go with line breaks, as an indent: a lone one is a `+` that was taken for a form's space.
        idle = _WHITESPACE if b"\n" in raw else _LINE_ENDS
        raw = raw.strip().translate(_URLSAFE, idle).rstrip(b"=")
        return pybase64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _not_base64(f"{path} is not base64: it {beginning(text)}", path) from error


def _from_percent_encoding(payload: str, path: str, max_bytes: int) -> bytes:
    if len(payload) > 3 * max_bytes:  # `%41` is the longest way to write a byte.
        raise _too_large(path, len(payload) // 3, max_bytes)
    # Text that came through JSON may hold half a surrogate pair, which no encoding takes.
    data = unquote_to_bytes(payload.encode("utf-8", "replace"))
    if not data:
        raise refuse(f"{path} is empty", code="empty_file", path=path)
    if len(data) > max_bytes:
        raise _too_large(path, len(data), max_bytes)
    return data


def _check_base64_size(text: str, path: str, max_bytes: int) -> None:
    if len(text) * 3 // 4 <= max_bytes:
        return
    # Only a text that looks too long is counted: what is no data in it may bring it below the limit.
    idle = sum(text.count(chr(character)) for character in _WHITESPACE + b"=")
    idle += 2 * text.count("%") + text.count("%3D") + text.count("%3d")
    size = (len(text) - idle) * 3 // 4
    if size > max_bytes:
        raise _too_large(path, size, max_bytes)


def _too_large(path: str, size_bytes: int, max_bytes: int) -> InvalidRequest:
    return refuse(
        f"{path} holds {size_bytes} bytes, more than the {max_bytes} that one file may have",
        code="file_too_large",
        path=path,
        hint="INPUT_MAX_BYTES of the worker sets the limit.",
    )


def _not_base64(message: str, path: str) -> InvalidRequest:
    return refuse(
        message,
        code="not_base64",
        path=path,
        hint="Send the file's bytes as base64, bare or as a data URI (data:image/png;base64,…).",
    )
