"""obstore's exceptions, translated.

obstore raises text: a sentence with the URL and the answer's body in it, then the Rust error as its debug print. The
second half is read here, since only there are strings escaped: no key and no body can pass for something else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import obstore.exceptions

from comfyworker.delivery.store.faults import Refusal, StoreFault, explain, read_refusal
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.parts import UploadStopped

_DEBUG = "\n\nDebug source:\n"
_STATUS = re.compile(r"^ +inner: (?:Status|Response) \{\n", re.MULTILINE)
_NUMBER = re.compile(r"^ +status: (\d{3}),$", re.MULTILINE)
_BODY = re.compile(r'^ +(?:body: )?"((?:[^"\\]|\\.)*)",$', re.MULTILINE)
_KIND = re.compile(r"^ +HttpError \{\n +kind: (\w+),$", re.MULTILINE)
_TLS = re.compile(
    r"^ +(?:error: )?(?:InvalidCertificate|InvalidMessage|AlertReceived|PeerIncompatible|PeerMisbehaved)\("
)
_ESCAPES = {r"\"": '"', r"\'": "'", r"\n": "\n", r"\\": "\\"}
_BARE_REDIRECT = re.compile(r"^ +inner: BareRedirect,$", re.MULTILINE)
_NOT_S3 = re.compile(r"^ +source: (?:Metadata|InvalidMultipartResponse|InvalidListResponse)", re.MULTILINE)
_KINDS = {"Timeout": "timeout", "Connect": "connect"}


@contextlib.contextmanager
def translated(location: StoreLocation, *, is_reading: bool = False) -> Iterator[None]:
    """Raise what obstore raises as StoreFault, without its chain: its text shows the whole URL and the answer."""
    try:
        yield
    except (StoreFault, UploadStopped):
        raise
    except (obstore.exceptions.BaseError, OSError, ValueError, NotImplementedError) as error:
        raise explain(_refusal(str(error)), location, is_reading=is_reading) from None


def _refusal(text: str) -> Refusal:
    debug = text.rpartition(_DEBUG)[2]
    found = _STATUS.search(debug)
    if found is not None:
        rest = debug[found.end() :]
        status, body = _NUMBER.search(rest), _BODY.search(rest)
        return read_refusal(_unescaped(body[1]) if body else "", int(status[1]) if status else None)
    if _BARE_REDIRECT.search(debug):
        return Refusal(status=301, code="PermanentRedirect")
    if _NOT_S3.search(debug):
        return Refusal(network="not_s3")
    return Refusal(network=_network(debug))


def _network(debug: str) -> str:
    kind = _KIND.search(debug)
    if kind is None:
        return "cut"
    for line in debug.splitlines():
        bare = line.strip()
        if bare == '"dns error",':
            return "dns"
        if bare == "kind: ConnectionRefused,":
            return "refused"
        if _TLS.match(line):
            return "tls"
    return _KINDS.get(kind[1], "cut")


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), text)
