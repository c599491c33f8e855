"""The tests' own client for S3: it shares nothing with obstore, not even the signature, which is AWS's Version 2."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict
from yarl import URL

ANYONE = "http://acs.amazonaws.com/groups/global/AllUsers"
"""How S3 writes "everybody" in an access list."""
LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


@dataclass(frozen=True)
class StoredObject:
    """What an object store answered."""

    status: int
    headers: CIMultiDict[str]
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> str:
        """What kind of content the store says it is."""
        return self.headers["Content-Type"]


@dataclass(frozen=True)
class S3Client:
    """Asks one S3 server, with one pair of keys, bucket in the path."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    clock_shift_s: int = 0
    """How late it is for the server."""

    async def ask(
        self,
        method: str,
        path: str,
        resource: str = "",
        *,
        body: bytes = b"",
        content_type: str = "",
        amz_headers: Mapping[str, str] | None = None,
    ) -> StoredObject:
        """Ask for `/bucket` or `/bucket/key` (not quoted) and a sub-resource of it, such as `acl`.

        Raises:
            LookupError: The store refused, with its answer.
        """
        target = quote(path) + (f"?{resource}" if resource else "")
        date = formatdate(time.time() + self.clock_shift_s, usegmt=True)
        extra = dict(sorted((amz_headers or {}).items()))
        lines = [method, "", content_type, date, *(f"{name}:{value}" for name, value in extra.items()), target]
        headers = {**extra, "Date": date, "Authorization": self._signature("\n".join(lines))}
        if content_type:
            headers["Content-Type"] = content_type
        answer = await fetch(f"{self.endpoint_url}{target}", method=method, headers=headers, body=body)
        if answer.status >= 300:
            message = f"{method} {target} was answered {answer.status}: {answer.body.decode(errors='replace')}"
            raise LookupError(message)
        return answer

    def _signature(self, text: str) -> str:
        digest = hmac.new(self.secret_access_key.encode(), text.encode(), hashlib.sha1).digest()
        return f"AWS {self.access_key_id}:{base64.b64encode(digest).decode()}"


async def fetch(
    url: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
) -> StoredObject:
    """Ask for a URL exactly as it is written (a presigned one must not be quoted anew) and return the answer."""
    async with (
        aiohttp.ClientSession(timeout=LIMIT, auto_decompress=False) as session,
        session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            skip_auto_headers=["Content-Type"],
            allow_redirects=False,
        ) as answer,
    ):
        return StoredObject(answer.status, CIMultiDict(answer.headers), await answer.read())
