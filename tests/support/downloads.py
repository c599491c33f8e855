"""Fetching from the tests' server of models."""

import functools
import random
from pathlib import Path

from comfyworker.provision.download import Download, Downloader, OnBytes, Receipt
from comfyworker.settings import ProvisionSettings, StoreSettings
from support.model_server import ModelServer

MEBIBYTE = 1024 * 1024


class Fetcher:
    """Fetches from the tests' server into the test's folder."""

    def __init__(self, server: ModelServer, folder: Path) -> None:
        """Fetch with settings that a test may replace."""
        self.server = server
        self.folder = folder
        self.settings = ProvisionSettings(connections=4, attempts=3)
        self.store = StoreSettings()
        self.is_guarded = False
        self.allow_private = False

    def download(self, path: str, **fields: object) -> Download:
        """Return what is wanted: a path on the server, or a whole address."""
        url = self.server.url + path if path.startswith("/") else path
        return Download.model_validate({"url": url, "folder": self.folder, **fields})

    async def __call__(self, path: str, *, on_bytes: OnBytes | None = None, **fields: object) -> Receipt:
        """Fetch one file."""
        async with self.downloader() as downloader:
            return await downloader.fetch(self.download(path, **fields), on_bytes=on_bytes)

    def downloader(self) -> Downloader:
        """Return a downloader that is not open yet."""
        return Downloader(self.settings, self.store, is_guarded=self.is_guarded, allow_private=self.allow_private)

    def names(self) -> list[str]:
        """Return all that is in the folder."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@functools.cache
def content(size: int, seed: int = 1) -> bytes:
    """Return bytes that no two seeds have alike."""
    return random.Random(seed).randbytes(size)  # no secret
