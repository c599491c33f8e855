"""Names of files that a source gives: taken only if they stay in their folder."""

from __future__ import annotations

import re
from email.message import Message
from urllib.parse import unquote

from comfyworker.provision.download._faults import Fault

_MAX_NAME_BYTES = 200
"""Less than a file system's 255, so that the name of the unfinished file, which is longer, fits too."""
_ODD = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|\ud800-\udfff]")


def is_plain_filename(name: str) -> bool:
    """Tell whether a name can be nothing but a file in its folder, on any file system, and is not hidden."""
    if not name or name != name.strip() or name.startswith(".") or name.endswith("."):
        return False
    return _ODD.search(name) is None and len(name.encode()) <= _MAX_NAME_BYTES


def check_filename(name: str) -> str:
    """Return a name that is plain.

    Raises:
        Fault: it is not.
    """
    if not is_plain_filename(name):
        text = "has a file name that is not taken: it is empty, hidden, too long, or would lead out of its folder"
        raise Fault(text, "unsafe_filename", hint="Set `filename` of the model.")
    return name


def name_in_header(content_disposition: str | None) -> str | None:
    """Return the name that a Content-Disposition header gives; None if it gives none.

    Raises:
        Fault: the name would lead out of the folder, or is none.
    """
    if not content_disposition:
        return None
    message = Message()
    # aiohttp hands raw bytes of a header on as surrogates; a line break would make another header of the rest.
    message["Content-Disposition"] = re.sub(r"[\r\n]", " ", content_disposition)
    name = message.get_filename()
    return None if name is None else check_filename(_repaired(name).strip())


def name_in_path(path: str) -> str:
    """Return the last part of a URL's path as a file name.

    Raises:
        Fault: it is no name of a file, as `download` or `12345` are none.
    """
    name = unquote(path.rstrip("/").rpartition("/")[2])
    if not is_plain_filename(name) or "." not in name:
        text = "gives the file no name: its host sends none, and its path does not end with one"
        raise Fault(text, "no_filename", hint="Set `filename` of the model.")
    return name


def _repaired(name: str) -> str:
    """Return a name whose UTF-8 was read as single bytes, as some hosts' plain `filename=` is, as it was meant."""
    try:
        return name.encode("ascii", "surrogateescape").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return name
