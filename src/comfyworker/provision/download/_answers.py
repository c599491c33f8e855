"""What the answers of a file's host say, looked at before it is believed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from comfyworker.provision.download._faults import Fault, RangesLost, SourceChanged, status_fault
from comfyworker.provision.download.filenames import name_in_header

MAX_FILE_BYTES = 16 * 1024**4
"""More than any model has: a size above it is a host's mistake."""
_RANGE = re.compile(r"bytes\s+(\d{1,20})-(\d{1,20})/(\d{1,20}|\*)", re.IGNORECASE)
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True)
class Facts:
    """What a source says of a file."""

    filename: str | None
    """The name that it gives itself; None if it gives none."""
    size_bytes: int | None
    takes_ranges: bool
    etag: str | None = None
    if_range: str | None = None
    """What tells the source which state of the file a range must be of."""
    identity: str | None = None
    """Equal as long as the file is the same; None where nothing says so, so that nothing can be resumed."""
    sha256: str | None = None
    ends_by_itself: bool = True
    """Whether a body that was cut is seen to be, also where no size is said."""


def read_facts(response: aiohttp.ClientResponse) -> Facts:
    """Return what the answer to a request for the first byte says.

    Raises:
        Fault: it brings no file.
    """
    if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise Fault("is empty", "not_a_model", status=response.status)
    if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise status_fault(response.status, response.headers.get("Retry-After"))
    check_body(response)
    takes_ranges = response.status == HTTPStatus.PARTIAL_CONTENT
    size = _total(response) if takes_ranges else _length(response)
    if size == 0:
        raise Fault("is empty", "not_a_model", status=response.status)
    etag, changed = response.headers.get("ETag"), response.headers.get("Last-Modified")
    strong = etag if etag and not etag.startswith("W/") else None
    identity = f"etag {etag}" if etag else f"changed {changed}" if changed else None
    return Facts(
        filename=name_in_header(response.headers.get("Content-Disposition")),
        size_bytes=size,
        takes_ranges=takes_ranges and size is not None,
        etag=etag,
        if_range=strong or changed,
        identity=identity,
        ends_by_itself=size is not None or "chunked" in response.headers.get("Transfer-Encoding", "").lower(),
    )


def check_body(response: aiohttp.ClientResponse) -> None:
    """Look whether an answer's body can be a model.

    Raises:
        Fault: it is a page for people, or it is compressed.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in _PAGES:
        hint = "It may be a login page, or the page about the file: use the URL of the download itself."
        raise Fault("is a web page, not a model", "not_a_model", hint=hint)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Fault("comes compressed, although it was asked for as it is", "not_a_model")


def check_range(response: aiohttp.ClientResponse, facts: Facts, start: int, end: int) -> int:
    """Look at the answer to a request for a range; return where its body ends, at most at `end`.

    Raises:
        SourceChanged: the file is another one now.
        RangesLost: the whole file comes instead.
        Fault: it is none of what was asked for.
    """
    status = response.status
    if status in {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
        raise SourceChanged
    if status == HTTPStatus.OK:
        check_body(response)
        if _is_same(response, facts):
            raise RangesLost
        raise SourceChanged
    if status != HTTPStatus.PARTIAL_CONTENT:
        raise status_fault(status, response.headers.get("Retry-After"))
    check_body(response)
    first, last, total = _content_range(response)
    if total is not None and total != facts.size_bytes:
        raise SourceChanged
    etag = response.headers.get("ETag")
    if facts.if_range is not None and facts.if_range == facts.etag and etag is not None and etag != facts.etag:
        raise SourceChanged
    if first != start or not first <= last < end:
        text = f"was answered with bytes {first}-{last}, although {start}-{end - 1} were asked for"
        raise Fault(text, "broken_ranges", hint="Its host, or a proxy before it, is broken.")
    return last + 1


def _is_same(response: aiohttp.ClientResponse, facts: Facts) -> bool:
    """Tell whether a whole file that came instead of a range is, as far as can be seen, the one that was begun."""
    length = response.headers.get("Content-Length")
    if length is not None and length != str(facts.size_bytes):
        return False
    return facts.etag is not None and response.headers.get("ETag") == facts.etag


def _total(response: aiohttp.ClientResponse) -> int | None:
    first, _, total = _content_range(response)
    if first != 0:
        raise Fault("answers a request for its first byte with another one", "broken_ranges")
    return None if total is None else _sane(total)


def _length(response: aiohttp.ClientResponse) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None or not length.isdecimal() else _sane(int(length[:25]))


def _content_range(response: aiohttp.ClientResponse) -> tuple[int, int, int | None]:
    found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if found is None:
        text = "sends a range without saying which: its Content-Range cannot be read"
        raise Fault(text, "broken_ranges", hint="Its host, or a proxy before it, is broken.")
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def _sane(size: int) -> int:
    if size > MAX_FILE_BYTES:
        raise Fault(f"claims to have {size} bytes, which no model has", "broken_ranges")
    return size
