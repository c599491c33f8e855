"""URLs that carry their own permission: signed, and for a while only."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import struct
import uuid
from pathlib import Path

from blake3 import blake3

from comfyworker.errors import Forbidden
from comfyworker.replacing import replace_file

_KEY_FILE = "signing.key"
_KEY_BYTES = 32
_TAG_BYTES = 16
_FIELDS = struct.Struct(">16sQ")


class UrlSigner:
    """Makes and checks the token in an artifact's URL; a token names one asset and when it ends, nothing else."""

    def __init__(self, key: bytes) -> None:
        """Sign with `key`, 32 bytes."""
        self._key = key

    def token(self, asset_id: str, *, expires_at: float) -> str:
        """Return the token that lets whoever has it read `asset_id` until `expires_at` (Unix seconds)."""
        fields = _FIELDS.pack(uuid.UUID(asset_id).bytes, int(expires_at))
        return base64.urlsafe_b64encode(fields + self._tag(fields)).decode().rstrip("=")

    def open(self, token: str, *, now: float) -> str:
        """Return the id of the asset that `token` is for.

        Raises:
            Forbidden: it is not one of ours, or its time is over.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        fields, tag = raw[: _FIELDS.size], raw[_FIELDS.size :]
        if len(fields) != _FIELDS.size or not hmac.compare_digest(tag, self._tag(fields)):
            raise Forbidden("this URL was not made by this server", hint="Take it from the job's answer as it is.")
        raw_id, expires_at = _FIELDS.unpack(fields)
        if expires_at < now:
            raise Forbidden("this URL has expired", hint="Ask for the job again: its answer has a new one.")
        return str(uuid.UUID(bytes=raw_id))

    def _tag(self, fields: bytes) -> bytes:
        return blake3(fields, key=self._key).digest(_TAG_BYTES)


def load_signer(folder: Path) -> UrlSigner:
    """Return the signer of this state folder; its key is made at the first start and outlives restarts.

    Blocks for a moment; `folder` must be locked by its server.
    """
    file = folder / _KEY_FILE
    try:
        key = file.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != _KEY_BYTES:
        key = secrets.token_bytes(_KEY_BYTES)
        replace_file(file, key, mode=0o600)
    return UrlSigner(key)
