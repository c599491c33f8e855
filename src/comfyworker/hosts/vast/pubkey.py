"""The public key with which Vast.ai's router signs requests."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import structlog

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LARGEST_KEY_BYTES = 64 * 1024
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_RENEWED_EVERY_S = 60.0


class PublicKeys:
    """Gets Vast's key from any of its addresses, and says whether a signature was made with it."""

    def __init__(
        self,
        addresses: Sequence[str],
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `addresses` over `session`, whose timeouts must be bounded."""
        self._addresses = tuple(addresses)
        self._session = session
        self._clock = clock
        self._key: RSAPublicKey | None = None
        self._renewing = asyncio.Lock()
        self._renewed_at = 0.0

    @property
    def is_there(self) -> bool:
        """Whether the key has come."""
        return self._key is not None

    async def fetch(self) -> None:
        """Get the key; return when it is there. It is never given up: without it no request can be taken."""
        for attempt in itertools.count():
            if await self._ask_all():
                log.info("pubkey.fetched", attempts=attempt + 1)
                return
            longest_s = min(_FIRST_PAUSE_S * 2 ** min(attempt, 10), _LONGEST_PAUSE_S)
            await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load, keeps no secret

    async def renew(self) -> bool:
        """Look whether Vast has another key by now, at most once a minute; return whether there is another."""
        if self._renewing.locked():
            return False  # Whoever asks with bad signatures does not make all others wait.
        async with self._renewing:
            if self._clock() - self._renewed_at < _RENEWED_EVERY_S:
                return False
            self._renewed_at = self._clock()
            before = self._key
            return await self._ask_all() and self._key != before

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether `signature` is Vast's for `message`; never where the key is not there."""
        # Imported here: only `comfyworker vast` needs it.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        if self._key is None:
            return False
        try:
            self._key.verify(signature, message, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    async def _ask_all(self) -> bool:
        """Ask one address after the other; return whether one gave a key."""
        for address in self._addresses:
            if await self._ask(address):
                return True
        return False

    async def _ask(self, address: str) -> bool:
        try:
            async with self._session.get(f"{address}/pubkey/") as answer:
                answer.raise_for_status()
                pem = await _read_all(answer.content)
            self._key = _read_key(pem)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("pubkey.failed", host=urlsplit(address).hostname, error_type=type(error).__name__)
            return False
        return True


async def _read_all(content: aiohttp.StreamReader) -> bytes:
    """Return a body, however many pieces it comes in.

    Raises:
        ValueError: it is too large to be a key.
    """
    read = b""
    async for piece in content.iter_any():
        read += piece
        if len(read) > _LARGEST_KEY_BYTES:
            message = "too large to be a key"
            raise ValueError(message)
    return read


def _read_key(pem: bytes) -> RSAPublicKey:
    """Return the key that an address answered with.

    Raises:
        ValueError: it is no RSA key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, RSAPublicKey):
        message = "no RSA key"
        raise ValueError(message)  # noqa: TRY004  # as one that cannot be read
    return key
