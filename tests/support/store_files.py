"""Files to upload, and settings that lead to the object store of the test run."""

from pathlib import Path

from comfyworker.delivery.store import StoreLocation, find_location
from comfyworker.jobs import Artifact, StoreOptions
from comfyworker.settings import StoreSettings
from support.artifacts import file_artifact
from support.object_store import ObjectStore

MEBIBYTE = 1024 * 1024
PART_BYTES = 5 * MEBIBYTE


def store_settings(store: ObjectStore, bucket: str, **more: object) -> StoreSettings:
    """Return settings that lead to a bucket of the real store, with the smallest parts that there are."""
    given: dict[str, object] = {
        "endpoint_url": store.endpoint_url,
        "bucket": bucket,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
        "region": store.region,
        "part_bytes": PART_BYTES,
    }
    return StoreSettings.model_validate(given | more)


def located(settings: StoreSettings, options: StoreOptions | None = None) -> StoreLocation:
    """Return where that leads, which is somewhere."""
    location = find_location(settings, options)
    assert location is not None
    return location


def written(path: Path, size_bytes: int, content_type: str = "image/png") -> Artifact:
    """Write a file whose every mebibyte differs from the next; return it as the artifact of a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size_bytes, MEBIBYTE):
            file.write((start // MEBIBYTE % 251).to_bytes(1, "big") * min(MEBIBYTE, size_bytes - start))
    return file_artifact(path, content_type=content_type)
