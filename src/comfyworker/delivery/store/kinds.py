"""The kinds of object storage."""

from __future__ import annotations

from enum import StrEnum


class StoreKind(StrEnum):
    """Which protocol a storage speaks."""

    S3 = "s3"
    GCS = "gcs"
    AZURE = "azure"
    FILE = "file"
