"""Whether what has come is a model, and the one that was wanted."""

from __future__ import annotations

import re

from comfyworker.provision.download._answers import Facts
from comfyworker.provision.download._faults import Fault
from comfyworker.provision.download.records import Download

BEGINNING_BYTES = 512
_PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|\?xml)\b", re.IGNORECASE)
_POINTER = b"version https://git-lfs.github.com/spec/"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_told(download: Download, facts: Facts) -> None:
    """Compare what is wanted with what the source says, before anything is fetched.

    Raises:
        Fault: the source has another file, or what is wanted cannot be.
    """
    wanted = wanted_hash(download)
    if wanted is not None and facts.sha256 is not None and wanted != facts.sha256:
        text = f"has the SHA-256 {facts.sha256} at its source, not {wanted}"
        raise Fault(text, "wrong_hash", hint="Correct `sha256` of the model, or its URL: it is another file.")
    if None not in {download.size_bytes, facts.size_bytes} and download.size_bytes != facts.size_bytes:
        text = f"has {facts.size_bytes} bytes, not {download.size_bytes}"
        raise Fault(text, "wrong_size", hint="Correct `size` of the model, or its URL: it is another file.")
    if not facts.ends_by_itself and wanted is None and facts.sha256 is None and download.size_bytes is None:
        text = "has a host that does not say how long it is, so that nobody could tell whether all of it came"
        raise Fault(text, "wrong_size", hint="Give `sha256` or `size` of the model.")


def check_beginning(beginning: bytes) -> None:
    """Look at the first bytes of a file.

    Raises:
        Fault: they are those of a page for people, or of a text that stands for a file.
    """
    if _PAGE.match(beginning):
        hint = "It may be a login page, or the page about the file: use the URL of the download itself."
        raise Fault("is a web page, not a model", "not_a_model", hint=hint)
    if beginning.startswith(_POINTER):
        hint = "Use the URL of the download itself; on GitHub that is https://media.githubusercontent.com/media/…"
        raise Fault("is a Git LFS pointer, not the model that it points to", "not_a_model", hint=hint)


def check_whole(download: Download, facts: Facts, size_bytes: int, digest: str) -> None:
    """Compare a whole file with what was wanted and with what its source said.

    Raises:
        Fault: it is another one.
    """
    for wanted_bytes, who in ((facts.size_bytes, "its host said"), (download.size_bytes, "were wanted")):
        if wanted_bytes is not None and wanted_bytes != size_bytes:
            raise Fault(f"came with {size_bytes} bytes, and {wanted_bytes} {who}", "wrong_size", may_pass=True)
    check_hash(wanted_hash(download), digest)
    check_hash(facts.sha256, digest)


def check_hash(wanted: str | None, digest: str) -> None:
    """Compare two digests; raises Fault."""
    if wanted is not None and wanted != digest:
        text = f"came with the SHA-256 {digest}, not {wanted}"
        hint = "Correct `sha256` of the model if its source has a new file; else it was changed on its way."
        raise Fault(text, "wrong_hash", hint=hint, may_pass=True)


def wanted_hash(download: Download) -> str | None:
    """Return the SHA-256 that a file must have.

    Raises:
        Fault: what was given is none.
    """
    if download.sha256 is None:
        return None
    wanted = download.sha256.strip().lower()
    if not _SHA256.fullmatch(wanted):
        raise Fault("has a `sha256` that is none: it has 64 hexadecimal digits", "wrong_hash")
    return wanted
