"""One PUT of a whole file, its content signed as AWS's own clients do it over HTTP. Uses nothing of comfyworker."""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

SIGNED_HEADERS = "host;x-amz-content-sha256;x-amz-date"


async def put_signed(session: aiohttp.ClientSession, environ: Mapping[str, str], path: Path) -> None:
    """Upload a file: it is read once to be signed, and once more on its way.

    Args:
        session: The client.
        environ: Where to, by the worker's variables.
        path: The file; its name is the key, and needs no quoting.
    """
    content_hash = await asyncio.to_thread(_hash, path)
    target = f"/{environ['BUCKET_NAME']}/{path.name}"
    endpoint = environ["BUCKET_ENDPOINT_URL"]
    headers = _headers(environ, urlsplit(endpoint).netloc, target, content_hash)
    with path.open("rb") as file:
        async with session.put(URL(f"{endpoint}{target}", encoded=True), data=file, headers=headers) as answer:
            answer.raise_for_status()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _headers(environ: Mapping[str, str], host: str, target: str, content_hash: str) -> dict[str, str]:
    now = datetime.now(UTC)
    date, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{environ['BUCKET_REGION']}/s3/aws4_request"
    request = [
        *("PUT", target, "", f"host:{host}", f"x-amz-content-sha256:{content_hash}", f"x-amz-date:{date}", ""),
        *(SIGNED_HEADERS, content_hash),
    ]
    hashed = hashlib.sha256("\n".join(request).encode()).hexdigest()
    key = f"AWS4{environ['BUCKET_SECRET_ACCESS_KEY']}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}".encode(), "sha256").hex()
    credential = f"Credential={environ['BUCKET_ACCESS_KEY_ID']}/{scope}"
    return {
        "Content-Type": "video/mp4",
        "x-amz-content-sha256": content_hash,
        "x-amz-date": date,
        "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={SIGNED_HEADERS}, Signature={signature}",
    }
