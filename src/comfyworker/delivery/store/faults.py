"""What a storage refuses, and what the way there breaks, in words for people.

Storages answer errors as XML with a code: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from comfyworker.delivery.store.location import StoreLocation

NOT_CONNECTED = "ComfyworkerNotConnected"
"""The code with which the proxy between us and a request's storage says that it found nobody there."""
_TOO_MANY_REQUESTS = 429


class StoreFault(Exception):
    """Why a file did not arrive: goes on after "could not be stored in bucket 'b' at https://host: "."""

    def __init__(self, reason: str, *, hint: str | None = None, code: str = "", may_pass: bool = False) -> None:
        """Keep what is told of it.

        Args:
            reason: What is wrong, in words that hold no key, no secret and no URL.
            hint: What to do now.
            code: The storage's own code for it, if it gave one.
            may_pass: Whether the same may succeed later without a change.
        """
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.code = code
        self.may_pass = may_pass


@dataclass(frozen=True)
class Refusal:
    """What a storage, or the way to it, said."""

    status: int | None = None
    """The HTTP status; None if there was no answer."""
    code: str = ""
    """The storage's own code, as `NoSuchBucket`."""
    region: str | None = None
    """The region that the storage expected."""
    skew_s: float | None = None
    """By how many seconds our clock is ahead of the storage's."""
    network: str = ""
    """What broke where there was no answer: dns | refused | tls | timeout | connect | cut | not_s3."""


_NETWORK = {
    "dns": ("the name of its host is not found", True),
    "refused": ("nothing listens there: the connection was refused", True),
    "tls": ("no safe connection could be made: its certificate or protocol does not fit", False),
    "connect": ("no connection could be made", True),
    "timeout": ("it did not answer in time", True),
    "cut": ("the connection broke", True),
    "not_s3": ("it answers, but not as S3 does", False),
}
_KEYS = ("access_key_id", "secret_access_key")


@dataclass(frozen=True)
class _Meaning:
    reason: str
    hint: str = ""
    fields: tuple[str, ...] = field(default=())
    """Which fields of the location to look at."""


_CODES = {
    "InvalidAccessKeyId": _Meaning("it does not know the access key", "Look at {fields}.", _KEYS),
    "SignatureDoesNotMatch": _Meaning(
        "the secret key does not belong to the access key", "Look at {fields}: both must be of one pair.", _KEYS
    ),
    "InvalidToken": _Meaning("the session token is not valid", "Look at {fields}.", ("session_token",)),
    "ExpiredToken": _Meaning("the temporary keys have expired", "Renew {fields}.", (*_KEYS, "session_token")),
    "AccessDenied": _Meaning(
        "the keys may not write there",
        "Allow them to put and read objects in the bucket, or use other keys in {fields}.",
        _KEYS,
    ),
    "AllAccessDisabled": _Meaning("all access to it is switched off", "Ask its owner."),
    "AccountProblem": _Meaning("its owner's account has a problem", "Ask its owner."),
    "NoSuchBucket": _Meaning("there is no such bucket", "Make it, or correct {fields}.", ("bucket",)),
    "InvalidBucketName": _Meaning("that is no name for a bucket", "Correct {fields}.", ("bucket",)),
    "NoSuchUpload": _Meaning("it has dropped the upload while it was running", "Try again."),
    "EntityTooLarge": _Meaning("the file is larger than it takes", "Use a storage that takes larger objects."),
    "EntityTooSmall": _Meaning("a part is smaller than it takes", "Set BUCKET_PART_BYTES higher."),
    "InvalidPart": _Meaning("a part was lost on the way", "Try again."),
    "QuotaExceeded": _Meaning("its quota is used up", "Free space in the bucket."),
    "XMinioStorageFull": _Meaning("its disk is full", "Free space there."),
    "InvalidStorageClass": _Meaning("it does not take the storage class"),
    "AccessControlListNotSupported": _Meaning(
        "its bucket takes no ACLs", "Unset BUCKET_ACL, or allow ACLs in the bucket's object ownership."
    ),
    "NotImplemented": _Meaning("it does not know one of the requests made"),
}
_SKEWED = "RequestTimeTooSkewed"
_REGION_CODES = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "InvalidRegionName"}
)
_BUSY_CODES = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "ServerBusy"})
_STATUSES = {
    401: _Meaning("it does not take the keys", "Look at {fields}.", _KEYS),
    403: _Meaning("the keys may not write there", "Look at {fields} and at the bucket's policy.", _KEYS),
    404: _Meaning(
        "it has no such bucket, or is no storage", "Make the bucket, or correct {fields}.", ("endpoint_url", "bucket")
    ),
    405: _Meaning("it takes no uploads at that address", "Look at {fields}.", ("endpoint_url",)),
    411: _Meaning("it is no storage that takes parts of a file"),
    413: _Meaning("the file is larger than it takes", "Set BUCKET_PART_BYTES lower."),
    501: _Meaning("it does not know one of the requests made"),
    507: _Meaning("its disk or quota is full", "Free space there."),
}


_READING = {
    "NoSuchKey": _Meaning("there is no such object", "Look at the key: its folders, and its letters' case."),
    "AccessDenied": _Meaning(
        "it may not be read with these keys, or there is no such object",
        "Look at the key, and at {fields}: without keys, only what is public can be read.",
        _KEYS,
    ),
}
_READING_STATUSES = {404: "NoSuchKey", 403: "AccessDenied"}


def explain(refusal: Refusal, location: StoreLocation, *, is_reading: bool = False) -> StoreFault:
    """Return what a refusal means, and what to do about it in this location's settings or request.

    Args:
        refusal: What the storage said.
        location: Which storage.
        is_reading: Whether something was to be read, not written.
    """
    code = refusal.code
    network = "connect" if code == NOT_CONNECTED else refusal.network
    if network:
        reason, may_pass = _NETWORK[network]
        return StoreFault(reason, hint=_network_hint(network, location), may_pass=may_pass)
    if code == _SKEWED:
        return StoreFault(_skewed(refusal), hint="Set this machine's clock right (NTP), then try again.", code=code)
    if code in _REGION_CODES or (refusal.status in {301, 307} and refusal.region is not None):
        return _wrong_region(refusal, location)
    status = refusal.status or 0
    if code in _BUSY_CODES or (status >= 500 and status not in _STATUSES) or status == _TOO_MANY_REQUESTS:
        shown = f" ({code or status})"
        return StoreFault(f"it is overloaded or failing{shown}", hint="Try again later.", code=code, may_pass=True)
    meaning = _CODES.get(code) or _STATUSES.get(status)
    if is_reading:
        meaning = _READING.get(code or _READING_STATUSES.get(status, "")) or meaning
    if meaning is None:
        return StoreFault(f"it answered {_shown(refusal)}", code=code, may_pass=False)
    return StoreFault(
        f"{meaning.reason} ({_shown(refusal)})",
        hint=meaning.hint.format(fields=_named(meaning.fields, location)) or None,
        code=code,
    )


def read_refusal(body: str, status: int | None) -> Refusal:
    """Return what the body of an error says: S3's, Google's and Azure's are XML with a code."""
    return Refusal(
        status=status,
        code=_tag(body, "Code") or "",
        region=_tag(body, "Region") or _expected_region(body),
        skew_s=_skew(body),
    )


def _tag(body: str, name: str) -> str | None:
    found = re.search(rf"<{name}>\s*([^<>]{{1,200}}?)\s*</{name}>", body)
    return found[1] if found else None


def _expected_region(body: str) -> str | None:
    found = re.search(r"expecting '([A-Za-z0-9-]{1,64})'", _tag(body, "Message") or "")
    return found[1] if found else None


def _skew(body: str) -> float | None:
    ours, theirs = _time(_tag(body, "RequestTime")), _time(_tag(body, "ServerTime"))
    return None if ours is None or theirs is None else (ours - theirs).total_seconds()


def _time(text: str | None) -> datetime | None:
    for shape in ("%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"):
        try:
            return datetime.strptime(text or "", shape)  # noqa: DTZ007  # both are UTC, and only their difference counts
        except ValueError:
            continue
    return None


def _skewed(refusal: Refusal) -> str:
    if refusal.skew_s is None:
        return "this machine's clock differs from the storage's by more than it takes (15 minutes on AWS)"
    side = "ahead of" if refusal.skew_s > 0 else "behind"
    return f"this machine's clock is {abs(refusal.skew_s) / 60:.0f} minutes {side} the storage's"


def _wrong_region(refusal: Refusal, location: StoreLocation) -> StoreFault:
    name = location.name_of("region")
    if refusal.region is not None:
        reason = f"the bucket is in the region '{refusal.region}', not in '{location.region}'"
        return StoreFault(reason, hint=f"Set {name} to '{refusal.region}'.", code=refusal.code)
    reason = f"the bucket is in another region than '{location.region}', or has another endpoint"
    return StoreFault(reason, hint=f"Look at {name} and {location.name_of('endpoint_url')}.", code=refusal.code)


def _network_hint(network: str, location: StoreLocation) -> str:
    endpoint = location.name_of("endpoint_url")
    if network == "timeout":
        limits = "BUCKET_REQUEST_TIMEOUT_S and BUCKET_CONNECT_TIMEOUT_S set the limits"
        return f"Look at {endpoint}, and whether the storage can be reached from here; {limits}."
    if network == "tls":
        return f"Look at {endpoint}: does the host speak https, under that name?"
    return f"Look at {endpoint}, and whether the storage can be reached from here."


def _named(fields: tuple[str, ...], location: StoreLocation) -> str:
    return " and ".join(location.name_of(name) for name in fields)


def _shown(refusal: Refusal) -> str:
    return refusal.code or f"status {refusal.status}"
