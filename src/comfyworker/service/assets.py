"""Files that owners can name: what they upload, and what their jobs made; the same bytes are kept once.

An owner finds only what is the owner's: to know a hash is not to have the file.
"""

from __future__ import annotations

import functools
import os
import re
import time
import uuid
from collections.abc import AsyncIterable
from io import FileIO
from pathlib import Path

from blake3 import blake3

from comfyworker.comfyui.media_types import kind_and_type
from comfyworker.errors import AssetTooLarge, BlobNotFound, HashMismatch, InvalidRequest, NotFound, Problem, WorkerError
from comfyworker.finishing import finish, in_thread
from comfyworker.service.asset_table import AssetTable
from comfyworker.service.database import Database, Transaction
from comfyworker.service.keeping import link_or_copy, unwritten
from comfyworker.service.live_outputs import LiveOutputs
from comfyworker.service.packing import whole_text
from comfyworker.service.records import AssetRecord
from comfyworker.service.state_folder import StateFolder, sync_folder
from comfyworker.settings import QueueSettings

_HASH = re.compile(r"blake3:[0-9a-f]{64}")
_PIECE_BYTES = 1024 * 1024
_CLEAN_UP_WITHIN_S = 10.0


class Assets:
    """The assets of all owners."""

    def __init__(self, database: Database, folder: StateFolder, live: LiveOutputs, settings: QueueSettings) -> None:
        """Keep files in `folder` and their records in `database`; those of jobs that are not over are in `live`."""
        self._database = database
        self._live = live
        self._folder = folder
        self._settings = settings
        self._table = AssetTable(folder)

    async def upload(
        self,
        chunks: AsyncIterable[bytes],
        *,
        owner: str,
        name: str,
        content_type: str | None = None,
        expected_hash: str | None = None,
    ) -> AssetRecord:
        """Take a file as it comes; it is durable when this returns, and nothing of it is left if this fails.

        Args:
            chunks: Its bytes.
            owner: Whose it is.
            name: What the owner calls it; a label, never a path.
            content_type: What it is; None goes by the name.
            expected_hash: `blake3:<hex>` that it must have.

        Raises:
            InvalidRequest: `expected_hash` is no hash.
            HashMismatch: the bytes are not those of `expected_hash`.
            AssetTooLarge: it is larger than ASSET_MAX_BYTES.
            InsufficientStorage: the disk is full.
        """
        wanted = None if expected_hash is None else check_hash(expected_hash)
        draft = self._folder.assets / f".{uuid.uuid4().hex}.part"
        try:
            size_bytes, digest = await self._receive(chunks, draft, name)
            if wanted is not None and digest != wanted:
                raise HashMismatch(
                    f"the bytes of '{name}' have the hash {digest}, not {wanted}",
                    hint="Send the file again; it was changed on its way, or the hash is another file's.",
                )
            asset = self._made(owner, name, content_type, digest, size_bytes)
            return await self._put(asset, draft)
        finally:
            await finish(in_thread(lambda: draft.unlink(missing_ok=True)), within_s=_CLEAN_UP_WITHIN_S, name="upload")

    async def from_hash(self, digest: str, *, owner: str, name: str, content_type: str | None = None) -> AssetRecord:
        """Make an asset of bytes that the owner has here already, in an upload or as a job's output.

        Raises:
            InvalidRequest: `digest` is no hash.
            BlobNotFound: the owner has no such bytes here.
            InsufficientStorage: the disk is full.
        """
        found = await self._find_hash(owner, check_hash(digest))
        if found is None:
            raise BlobNotFound(f"there are no bytes with the hash {digest}", hint="Upload the file.")
        draft = self._folder.assets / f".{uuid.uuid4().hex}.part"
        asset = self._made(owner, name, content_type or found.content_type, found.hash, found.size_bytes)
        try:
            # A file of its own: that of a job's output goes with the job.
            await in_thread(lambda: link_or_copy(found.path, draft))
            return await self._put(asset, draft)
        except FileNotFoundError as error:
            raise BlobNotFound(
                f"the bytes with the hash {digest} have just expired", hint="Upload the file."
            ) from error
        except OSError as error:
            raise unwritten(f"'{name}'", error) from error
        finally:
            await finish(in_thread(lambda: draft.unlink(missing_ok=True)), within_s=_CLEAN_UP_WITHIN_S, name="asset")

    async def has(self, digest: str, *, owner: str) -> bool:
        """Tell whether the owner has these bytes here.

        Raises:
            InvalidRequest: `digest` is no hash.
        """
        return await self._find_hash(owner, check_hash(digest)) is not None

    async def get(self, asset_id: str, *, owner: str) -> AssetRecord:
        """Return an owner's asset.

        Raises:
            NotFound: the owner has none of this id, or it has expired.
        """
        asset = await self._look_up(asset_id)
        if asset is None or asset.owner != owner:
            raise _not_found(asset_id)
        return asset

    async def find(self, asset_id: str) -> AssetRecord:
        """Return an asset, whoever owns it; for who has checked by other means that it may be shown.

        Raises:
            NotFound: there is none, or it has expired.
        """
        asset = await self._look_up(asset_id)
        if asset is None:
            raise _not_found(asset_id)
        return asset

    async def delete(self, asset_id: str, *, owner: str) -> None:
        """Forget an asset; its bytes go if nothing else has the same.

        Raises:
            NotFound: the owner has none of this id, or it has expired.
        """
        asset = await self.get(asset_id, owner=owner)
        await self._database.run(lambda transaction: self._table.delete(transaction, asset))

    async def _look_up(self, asset_id: str) -> AssetRecord | None:
        now, live = time.time(), self._live.find(asset_id)
        return live or await self._database.read(lambda transaction: self._table.find(transaction, asset_id, now))

    async def _find_hash(self, owner: str, digest: str) -> AssetRecord | None:
        now, live = time.time(), self._live.find_hash(owner, digest)
        return live or await self._database.read(
            lambda transaction: self._table.find_hash(transaction, owner, digest, now)
        )

    def _made(self, owner: str, name: str, content_type: str | None, digest: str, size_bytes: int) -> AssetRecord:
        now = time.time()
        return AssetRecord(
            id=str(uuid.uuid4()),
            owner=owner,
            name=whole_text(name),
            hash=digest,
            content_type=content_type or kind_and_type(name, "")[1],
            size_bytes=size_bytes,
            created_at=now,
            expires_at=now + self._settings.asset_ttl_s,
            path=self._folder.assets / digest.partition(":")[2],
        )

    async def _put(self, asset: AssetRecord, draft: Path) -> AssetRecord:
        try:
            return await self._database.run(functools.partial(self._store, asset=asset, draft=draft))
        except WorkerError:
            # The file had its place before it was seen that the record has none.
            unused = self._database.run(lambda transaction: self._table.remove_unused(transaction, asset))
            await finish(unused, within_s=_CLEAN_UP_WITHIN_S, name="asset")
            raise

    def _store(self, transaction: Transaction, *, asset: AssetRecord, draft: Path) -> AssetRecord:
        """Write the record, and bring the file to its place if none is there; in the database's thread."""
        known = self._table.find_hash(transaction, asset.owner, asset.hash, asset.created_at)
        # Put in the place of one that is there, too: equal bytes, and who reads the old one goes on reading.
        try:
            draft.replace(asset.path)
            sync_folder(self._folder.assets)
        except OSError as error:
            raise unwritten(f"'{asset.name}'", error) from error
        self._table.insert(transaction, asset)
        return asset.model_copy(update={"created_new": known is None})

    async def _receive(self, chunks: AsyncIterable[bytes], draft: Path, name: str) -> tuple[int, str]:
        """Write the bytes to `draft`, durably; return how many they are, and their hash."""
        hasher, size_bytes, waiting = blake3(), 0, bytearray()
        with await in_thread(functools.partial(_open, draft, name)) as file:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > self._settings.asset_max_bytes:
                    raise _too_large(name, self._settings.asset_max_bytes)
                waiting += chunk
                if len(waiting) >= _PIECE_BYTES:
                    await in_thread(functools.partial(_write, file, hasher, waiting, name))
                    waiting = bytearray()
            await in_thread(functools.partial(_write, file, hasher, waiting, name, is_last=True))
        return size_bytes, f"blake3:{hasher.hexdigest()}"


def check_hash(digest: str) -> str:
    """Return `digest` in the form in which hashes are compared.

    Raises:
        InvalidRequest: it is no hash.
    """
    lowered = digest.lower()
    if _HASH.fullmatch(lowered) is None:
        message = "the hash must be `blake3:` and 64 hexadecimal digits"
        raise InvalidRequest(message, problems=[Problem(message=message, code="invalid_value", path="hash")])
    return lowered


def _open(path: Path, name: str) -> FileIO:
    try:
        return FileIO(path, "xb")
    except OSError as error:
        raise unwritten(f"'{name}'", error) from error


def _write(file: FileIO, hasher: blake3, content: bytearray, name: str, *, is_last: bool = False) -> None:
    hasher.update(content)
    try:
        with memoryview(content) as view:
            written = 0
            while written < len(view):  # An unbuffered file may take less than it is given.
                written += file.write(view[written:])
        if is_last:
            os.fsync(file.fileno())
    except OSError as error:
        # Not caught where the bytes are awaited: a connection that breaks there is an OSError too.
        raise unwritten(f"'{name}'", error) from error


def _too_large(name: str, limit_bytes: int) -> AssetTooLarge:
    return AssetTooLarge(
        f"'{name}' has more than the {limit_bytes} bytes that an asset may have",
        hint="Send a smaller file. ASSET_MAX_BYTES of the worker is the limit.",
        details={"limit_bytes": limit_bytes},
    )


def _not_found(asset_id: str) -> NotFound:
    return NotFound(f"there is no asset {asset_id}", hint="It was never there, has expired, or was deleted.")
