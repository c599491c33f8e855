"""Requests that Vast.ai's router has signed for this worker.

Wire source: Vast's SDK, `Backend.__check_signature`, and the public PyWorker before it. Today a signature covers the
worker's URL only; older ones cover the other fields of auth_data as well. Both are RSA, PKCS#1 v1.5, SHA-256, over JSON
with four spaces, and come in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, JsonValue

from comfyworker.errors import InvalidRequest, Problem, QueueFull, Unauthorized
from comfyworker.hosts.vast.place import Place
from comfyworker.hosts.vast.pubkey import PublicKeys

_FIELDS = ("cost", "endpoint", "reqnum", "request_idx", "signature", "url")
_NUMBERS = ("reqnum", "request_idx")
_TEXTS = ("endpoint", "signature", "url")
_RETRY_AFTER_S = 5.0
_MOST_BYTES = 16 * 1024
"""What the router signs has less than one thousand; all of it may be looked at before anybody is known."""


class SignedForm(StrEnum):
    """What a signature covers."""

    URL_ONLY = "url_only"
    WHOLE = "whole"
    """The reqnum, too."""
    NONE = "none"
    """Nothing: it was not asked for."""


class RequestKey(NamedTuple):
    """What tells two requests apart: all requests for one worker may have the same signature."""

    reqnum: int
    request_idx: int


class AuthData(BaseModel):
    """What Vast's router gives a client for one request."""

    model_config = ConfigDict(frozen=True)

    cost: JsonValue
    endpoint: str
    reqnum: int
    request_idx: int
    signature: str
    url: str
    as_sent: dict[str, JsonValue]
    """All of it as it came, for what was signed, and for sessions, which are asked for with the same again."""

    @property
    def key(self) -> RequestKey:
        """What tells this request from others."""
        return RequestKey(self.reqnum, self.request_idx)


def parse_auth(value: object) -> AuthData:
    """Return the auth_data of a request.

    Raises:
        InvalidRequest: with every field that is missing or of the wrong type, or it is too large to be the router's;
            Vast's clients expect a 422.
    """
    reason = None
    if not isinstance(value, Mapping):
        reason = "is missing" if value is None else "must be an object"
    elif dump_small(value) is None:
        reason = f"is larger than {_MOST_BYTES} bytes, or nested too deeply"
    if reason is not None or not isinstance(value, Mapping):
        problem = _problem("auth_data", reason or "")
        raise InvalidRequest(problem.message, hint=_HINT, problems=[problem])
    problems = [_problem(f"auth_data.{name}", "is missing") for name in _FIELDS if name not in value]
    problems += [
        _problem(f"auth_data.{name}", "must be an integer")
        for name in _NUMBERS
        if name in value and (isinstance(value[name], bool) or not isinstance(value[name], int))
    ]
    problems += [
        _problem(f"auth_data.{name}", "must be text")
        for name in _TEXTS
        if name in value and not isinstance(value[name], str)
    ]
    if problems:
        raise InvalidRequest("; ".join(problem.message for problem in problems), hint=_HINT, problems=problems)
    return AuthData(**{name: value[name] for name in _FIELDS}, as_sent=dict(value))


def dump_small(auth_data: object) -> bytes | None:
    """Return what stands in `auth_data` as sorted JSON; None where it is larger or deeper than the router's ever is."""
    try:
        dumped = orjson.dumps(auth_data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than is written
        return None
    return dumped if len(dumped) <= _MOST_BYTES else None


_HINT = "Send the whole answer of Vast's /route/ as auth_data, beside payload."


def _problem(path: str, message: str) -> Problem:
    return Problem(message=f"{path} {message}", path=path, code="missing" if message == "is missing" else "wrong_type")


class Signatures:
    """Lets pass what Vast's router has signed for this worker."""

    def __init__(self, keys: PublicKeys | None, place: Place | None, *, unsecured: bool) -> None:
        """Check with the key that `keys` has.

        Args:
            keys: Vast's key, or where it will come from; may be None where nothing is checked.
            place: This worker; may be None there, too.
            unsecured: Whether all requests pass, signed or not.
        """
        self._keys = keys
        self._place = place
        self._unsecured = unsecured or keys is None or place is None
        if self._unsecured and not unsecured:
            message = "a worker that checks signatures needs a key and a place"
            raise ValueError(message)

    async def check(self, auth: AuthData) -> SignedForm:
        """Return what the signature of `auth` covers; it is a good one, and made for this worker.

        Where it is not, Vast may have another key by now: that is looked up, though not often.

        Raises:
            Unauthorized: the signature is not Vast's, or it was made for another worker.
            QueueFull: Vast's key has not come yet. Its client comes again after that, but never after Unauthorized.
        """
        if self._unsecured or self._keys is None or self._place is None:
            return SignedForm.NONE
        if not self._keys.is_there:
            raise QueueFull(
                "this worker has not got Vast's key yet, so it cannot check requests",
                hint="Send the request again.",
                details={"retry_after_s": _RETRY_AFTER_S},
            )
        if self._place.is_another(auth.url):
            raise Unauthorized(
                "the request is signed for another worker's url",
                hint="Send it to the url that Vast's /route/ answered with.",
            )
        form = self._form_of(auth, self._keys)
        if form is None and await self._keys.renew():
            form = self._form_of(auth, self._keys)
        if form is None:
            raise Unauthorized(
                "auth_data.signature is not Vast's for this auth_data",
                hint="Send auth_data as Vast's /route/ answered it, unchanged.",
            )
        return form

    @staticmethod
    def _form_of(auth: AuthData, keys: PublicKeys) -> SignedForm | None:
        try:
            signature = base64.b64decode(auth.signature)
        except (binascii.Error, ValueError):
            return None
        return next((form for form, message in _messages(auth) if keys.verifies(message, signature)), None)


def _messages(auth: AuthData) -> Iterator[tuple[SignedForm, bytes]]:
    """Yield what may have been signed, the usual first."""
    sent = auth.as_sent
    names = [name for name in _FIELDS if name != "signature"]
    yield SignedForm.URL_ONLY, _dumped({"url": auth.url})
    yield SignedForm.WHOLE, _dumped({name: sent[name] for name in names})
    yield SignedForm.WHOLE, _dumped({name: sent[name] for name in names if name != "request_idx"})
    if list(sent) != sorted(sent) or set(sent) != set(_FIELDS):
        yield SignedForm.WHOLE, _dumped({name: value for name, value in sent.items() if name != "signature"})


def _dumped(message: Mapping[str, JsonValue]) -> bytes:
    # By the standard library: the bytes must be those that were signed, down to the escapes.
    return json.dumps(message, indent=4).encode()
