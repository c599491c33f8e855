"""The assets in the database. All of this runs in the database's thread."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from comfyworker.service.database import Transaction
from comfyworker.service.records import AssetRecord, KeptArtifact
from comfyworker.service.state_folder import StateFolder

_COLUMNS = (
    "assets.id, assets.owner, assets.name, assets.hash, assets.content_type, assets.size_bytes, assets.created_at, "
    "assets.expires_at, assets.file, jobs.id"
)
_SELECT = f"SELECT {_COLUMNS} FROM assets LEFT JOIN jobs ON jobs.key = assets.job_key"  # noqa: S608  # the columns are ours


class AssetTable:
    """Statements on the assets."""

    def __init__(self, folder: StateFolder) -> None:
        """Write paths down as they are within `folder`."""
        self._folder = folder

    def find(self, transaction: Transaction, asset_id: str, now: float) -> AssetRecord | None:
        """Return an asset that has not expired."""
        sql = f"{_SELECT} WHERE assets.id = ? AND ifnull(assets.expires_at, ?) >= ?"
        return self._asset(transaction.execute(sql, (asset_id, now, now)).fetchone())

    def find_hash(self, transaction: Transaction, owner: str, digest: str, now: float) -> AssetRecord | None:
        """Return an owner's asset with these bytes; the one that lives longest."""
        sql = (
            f"{_SELECT} WHERE assets.owner = ? AND assets.hash = ? AND ifnull(assets.expires_at, ?) >= ? "
            "ORDER BY ifnull(assets.expires_at, 1e18) DESC LIMIT 1"
        )
        return self._asset(transaction.execute(sql, (owner, digest, now, now)).fetchone())

    def insert(self, transaction: Transaction, asset: AssetRecord) -> None:
        """Write an uploaded asset down."""
        file = self._folder.relative(asset.path)
        values = (asset.id, asset.owner, asset.name, asset.hash, asset.content_type, asset.size_bytes)
        transaction.execute(
            "INSERT INTO assets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (*values, asset.created_at, asset.expires_at, file),
        )

    def put_outputs(
        self,
        transaction: Transaction,
        key: str,
        owner: str,
        outputs: Sequence[KeptArtifact],
        *,
        created_at: float,
        expires_at: float | None,
    ) -> None:
        """Write a job's files down; those that are already live until `expires_at` from now on."""
        for output in outputs:
            if output.path is None or output.hash is None:
                continue
            values = (output.asset_id, owner, output.name, output.hash, output.content_type, output.size_bytes)
            transaction.execute(
                "INSERT INTO assets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
                (*values, created_at, expires_at, self._folder.relative(output.path), key),
            )

    def delete(self, transaction: Transaction, asset: AssetRecord) -> None:
        """Forget an asset; its file goes if no other has the same."""
        transaction.execute("DELETE FROM assets WHERE id = ?", (asset.id,))
        self.remove_unused(transaction, asset)

    def remove_unused(self, transaction: Transaction, asset: AssetRecord) -> None:
        """Remove the file of an asset that is forgotten, or never was written down, if no other has the same."""
        transaction.after_commit(lambda: self._remove_unused(transaction, self._folder.relative(asset.path)))

    def delete_expired(self, transaction: Transaction, now: float) -> int:
        """Forget uploads whose time is over; a job's outputs go with the job. Return how many."""
        sql = "DELETE FROM assets WHERE expires_at <= ? AND job_key IS NULL RETURNING file"
        files = [file for (file,) in transaction.execute(sql, (now,)).fetchall()]
        for file in set(files):
            transaction.after_commit(functools.partial(self._remove_unused, transaction, file))
        return len(files)

    def next_expiry(self, transaction: Transaction) -> float | None:
        """Return when the next upload's time is over."""
        sql = "SELECT min(expires_at) FROM assets WHERE expires_at IS NOT NULL AND job_key IS NULL"
        found: float | None = transaction.execute(sql).fetchone()[0]
        return found

    def files(self, transaction: Transaction) -> set[str]:
        """Return where the files of all assets lie."""
        return {file for (file,) in transaction.execute("SELECT file FROM assets").fetchall()}

    def _remove_unused(self, transaction: Transaction, file: str) -> None:
        # Looked at again: an upload of the same bytes may have come in the same transaction.
        if transaction.execute("SELECT 1 FROM assets WHERE file = ?", (file,)).fetchone() is None:
            self._folder.absolute(file).unlink(missing_ok=True)

    def _asset(self, columns: Sequence[object] | None) -> AssetRecord | None:
        if columns is None:
            return None
        names = (column.partition(".")[2] for column in _COLUMNS.split(", ")[:-2])
        values = dict(zip(names, columns, strict=False))
        path: Path = self._folder.absolute(str(columns[-2]))
        return AssetRecord.model_validate({**values, "path": path, "job_id": columns[-1]})
