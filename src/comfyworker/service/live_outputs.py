"""The files of jobs that are not over, found among the assets before the database has them."""

from __future__ import annotations

from collections import defaultdict

from comfyworker.service.live import LiveJob
from comfyworker.service.records import AssetRecord, KeptArtifact


class LiveOutputs:
    """Knows them in memory: they go with the server, and when their jobs end they are written down with that."""

    def __init__(self) -> None:
        """Know none."""
        self._assets: dict[str, AssetRecord] = {}
        self._ids: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, job: LiveJob, output: KeptArtifact) -> None:
        """Know a file that a job has just made; one that lies in object storage is none of ours."""
        if output.path is None or output.hash is None:
            return
        record = job.record
        self._ids[job.key].append(output.asset_id)
        self._assets[output.asset_id] = AssetRecord(
            id=output.asset_id,
            owner=record.owner,
            name=output.name,
            hash=output.hash,
            content_type=output.content_type,
            size_bytes=output.size_bytes,
            created_at=record.started_at or record.created_at,
            path=output.path,
            job_id=record.id,
        )

    def find(self, asset_id: str) -> AssetRecord | None:
        """Return a file."""
        return self._assets.get(asset_id)

    def find_hash(self, owner: str, digest: str) -> AssetRecord | None:
        """Return an owner's file with these bytes."""
        return next((file for file in self._assets.values() if (file.owner, file.hash) == (owner, digest)), None)

    def drop(self, job: LiveJob) -> None:
        """Forget the files of a job: it is over, or will make them anew."""
        for asset_id in self._ids.pop(job.key, ()):
            self._assets.pop(asset_id, None)
