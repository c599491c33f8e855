"""API keys: who may ask, and whose jobs are whose."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3
from pydantic import SecretStr

from comfyworker.errors import Unauthorized

_OWNER_CHARS = 16


class ApiKeys:
    """The keys that the settings list; each is an owner whose jobs the others cannot see."""

    def __init__(self, keys: Sequence[SecretStr], *, are_needed: bool = False) -> None:
        """Know `keys`; without any, everybody may ask and all jobs belong to the owner `""`.

        A key may be written `name:key`; keys of one name share their jobs, so that a key can be replaced.

        Args:
            keys: As the settings have them.
            are_needed: Have nobody ask where there are none.
        """
        self._are_needed = are_needed or bool(keys)
        self._owners: dict[bytes, str] = {}
        for entry in keys:
            name, _, key = entry.get_secret_value().rpartition(":")
            digest = blake3(key.encode())
            self._owners[digest.digest()] = name or digest.hexdigest()[:_OWNER_CHARS]

    def __bool__(self) -> bool:
        """Tell whether any key is needed."""
        return self._are_needed

    def owner_of(self, authorization: str | None) -> str:
        """Return the owner of the key in an `Authorization` header; `""` where no keys are set.

        Raises:
            Unauthorized: there is no key, or not one of ours.
        """
        if not self._are_needed:
            return ""
        owner = self.known_owner(authorization)
        if owner is None:
            what = "the API key is not one of this server's" if authorization else "this server wants an API key"
            raise Unauthorized(what, hint="Send the header `Authorization: Bearer KEY`; API_KEYS lists the keys.")
        return owner

    def known_owner(self, authorization: str | None) -> str | None:
        """Return the owner of the key in an `Authorization` header; None where it has none of ours."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if not token:
            scheme, token = "bearer", scheme
        # Compared by digest: how long the look-up takes says nothing about the key.
        return self._owners.get(blake3(token.strip().encode()).digest()) if scheme.lower() == "bearer" else None
