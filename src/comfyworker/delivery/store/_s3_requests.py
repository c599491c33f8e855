"""The requests of S3 that obstore has no call for: canned ACLs, and the list of unfinished uploads."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import UTC, datetime
from html import unescape
from http import HTTPStatus
from urllib.parse import quote

from yarl import URL

from comfyworker.deferred import aiohttp
from comfyworker.delivery.store._sigv4 import Keys, quote_key, sign
from comfyworker.delivery.store.faults import Refusal, StoreFault, explain, read_refusal
from comfyworker.delivery.store.location import StoreLocation

_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_KEY = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)
_UPLOAD_ID = re.compile(r"<UploadId>(.*?)</UploadId>", re.DOTALL)
_MAX_ANSWER_BYTES = 1024 * 1024


class S3Requests:
    """Signs and sends single requests to one bucket."""

    def __init__(self, location: StoreLocation, open_session: Callable[[], aiohttp.ClientSession]) -> None:
        """Send through sessions of `open_session`, one a request."""
        self._location = location
        self._open_session = open_session

    async def set_acl(self, key: str, acl: str) -> None:
        """Give an object a canned ACL.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html

        Raises:
            StoreFault: the storage refuses.
        """
        await self._ask("PUT", quote_key(key), "acl=", {"x-amz-acl": acl})

    async def abort_uploads(self, keys: Collection[str]) -> None:
        """Abort every unfinished upload of these objects.

        Raises:
            StoreFault: the storage refuses; one that cannot list uploads, too.
        """
        prefix = os.path.commonprefix(list(keys))  # noqa: RUF071  # S3 compares prefixes by characters, too
        listing = await self._ask("GET", "", f"prefix={quote(prefix, safe='~')}&uploads=")
        for upload in _UPLOAD.findall(listing):
            found, upload_id = _KEY.search(upload), _UPLOAD_ID.search(upload)
            if found is not None and upload_id is not None and unescape(found[1]) in keys:
                query = f"uploadId={quote(unescape(upload_id[1]), safe='~')}"
                await self._ask("DELETE", quote_key(unescape(found[1])), query)

    async def _ask(self, method: str, path: str, query: str, headers: Mapping[str, str] | None = None) -> str:
        import stamina  # noqa: PLC0415  # not before the first request: a server that starts needs none

        attempts = stamina.retry_context(
            on=_may_pass, attempts=self._location.attempts, timeout=30, wait_initial=0.25, wait_jitter=0.25
        )
        async for attempt in attempts:
            with attempt:
                return await self._ask_once(method, path, query, dict(headers or {}))
        raise AssertionError  # The last attempt returns or raises.

    async def _ask_once(self, method: str, path: str, query: str, headers: dict[str, str]) -> str:
        url = f"{self._location.base_url}/{path}?{query}"
        headers |= sign(method, url, self._keys(), now=datetime.now(UTC), headers=headers)
        async with self._translated(), self._open_session() as session:
            target = URL(url, encoded=True)
            async with session.request(method, target, headers=headers, allow_redirects=False) as answer:
                body = await _read(answer)
                if 200 <= answer.status < 300:
                    return body
                if method == "DELETE" and answer.status == HTTPStatus.NOT_FOUND:
                    return ""
                raise explain(read_refusal(body, answer.status), self._location)

    def _keys(self) -> Keys:
        location = self._location
        access, secret, token = location.access_key_id, location.secret_access_key, location.session_token
        return Keys(
            access.get_secret_value() if access else "",
            secret.get_secret_value() if secret else "",
            location.region,
            token.get_secret_value() if token else None,
        )

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorDNSError:
            raise explain(Refusal(network="dns"), self._location) from None
        except aiohttp.ClientSSLError:
            raise explain(Refusal(network="tls"), self._location) from None
        except TimeoutError:
            raise explain(Refusal(network="timeout"), self._location) from None
        except (aiohttp.ClientError, OSError) as error:
            network = "refused" if isinstance(error.__cause__, ConnectionRefusedError) else "cut"
            raise explain(Refusal(network=network), self._location) from None


async def _read(answer: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk[: _MAX_ANSWER_BYTES - len(body)]
    return body.decode(errors="replace")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StoreFault) and error.may_pass
