"""A bucket of the run's own in a real S3 server, for all measures that deliver to object storage."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
from obstore import sign_async
from yarl import URL

from benchmarks.uploader import Side, UploadPlan, plain_store
from support.object_store import ObjectStore
from support.object_store_client import fetch

StoreStarter = Callable[[], ObjectStore]
"""Starts the run's object store, or returns it if it is up."""


@dataclass(frozen=True)
class Bucket:
    """An empty bucket."""

    store: ObjectStore
    name: str

    def environ(self, endpoint_url: str | None = None) -> dict[str, str]:
        """Return the variables with which a worker delivers here, through a proxy if its URL is given."""
        return {
            "BUCKET_ENDPOINT_URL": endpoint_url or self.store.endpoint_url,
            "BUCKET_NAME": self.name,
            "BUCKET_REGION": self.store.region,
            "BUCKET_ACCESS_KEY_ID": self.store.access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.store.secret_access_key,
        }

    def upload_plan(self, side: Side, path: Path) -> UploadPlan:
        """Return what lets `benchmarks.uploader` upload a file here."""
        return UploadPlan(side, str(path), self.environ())

    async def read(self, urls: Sequence[str]) -> list[bytes]:
        """Return what lies under presigned URLs.

        Raises:
            RuntimeError: One of them cannot be read.
        """
        found = [await fetch(url) for url in urls]
        if any(one.status != 200 for one in found):
            message = f"the answers of the store to a job's URLs: {[one.status for one in found]}"
            raise RuntimeError(message)
        return [one.body for one in found]


class BareUploads:
    """The shortest road into a bucket: one PUT to a URL that was signed before; uses nothing of comfyworker."""

    def __init__(self, bucket: Bucket, session: aiohttp.ClientSession) -> None:
        """Upload into `bucket`."""
        self._session = session
        self._store = plain_store(bucket.environ())

    async def put(self, content: bytes) -> float:
        """Upload one file, and return how many seconds that took."""
        url = await sign_async(self._store, "PUT", f"bare/{uuid.uuid4().hex}.png", timedelta(hours=1))
        begun_at = time.perf_counter()
        headers = {"Content-Type": "image/png"}
        async with self._session.put(URL(url, encoded=True), data=content, headers=headers) as answer:
            answer.raise_for_status()
        return time.perf_counter() - begun_at
