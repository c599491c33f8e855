"""Files on their way into a real S3 server, which checks every signature."""

from pathlib import Path

from comfyworker.delivery.store import StoreDelivery, StoreLocation, Stores, find_location
from comfyworker.jobs import Artifact, ArtifactKind
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_client import fetch

MEBIBYTE = 1024 * 1024


def settings_of(store: ObjectStore, bucket: str, **more: object) -> StoreSettings:
    """Return settings that lead to a bucket of the real store."""
    given: dict[str, object] = {
        "endpoint_url": store.endpoint_url,
        "bucket": bucket,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
        "region": store.region,
        "part_bytes": 5 * MEBIBYTE,
    }
    return StoreSettings.model_validate(given | more)


def located(settings: StoreSettings) -> StoreLocation:
    """Return the settings' location, which is there."""
    location = find_location(settings)
    assert location is not None
    return location


def file_artifact(path: Path, content_type: str = "image/png") -> Artifact:
    """Return the artifact of a file."""
    return Artifact(
        name=path.name,
        kind=ArtifactKind.IMAGE,
        node_id="9",
        output_key="images",
        content_type=content_type,
        size_bytes=path.stat().st_size,
        path=path,
    )


def written(path: Path, size_bytes: int) -> Artifact:
    """Return the artifact of a new file whose every mebibyte differs."""
    with path.open("wb") as file:
        for start in range(0, size_bytes, MEBIBYTE):
            file.write((start % 251).to_bytes(1, "big") * min(MEBIBYTE, size_bytes - start))
    return file_artifact(path)


async def test_files_arrive_under_their_keys_with_urls_that_work(object_store: ObjectStore, tmp_path: Path) -> None:
    """Each file is stored with its media type under the job's key; its URL can be read by anybody."""
    bucket = await object_store.make_bucket()
    settings = settings_of(object_store, bucket)
    small, large = written(tmp_path / "a b+c#ü.png", 70_000), written(tmp_path / "film.mp4", 17 * MEBIBYTE + 5)
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job-1")
        first, text, second = await delivery.deliver(
            [small, small.model_copy(update={"path": None, "text": "t"}), large]
        )
    assert (first.failure, second.failure) == (None, None)
    assert text.text == "t"
    assert text.url is None
    assert await object_store.keys_in(bucket) == ["job-1/a b+c#ü.png", "job-1/film.mp4"]
    for artifact in (first, second):
        assert artifact.path is not None
        answer = await fetch(artifact.url or "")
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert answer.body == artifact.path.read_bytes()
    assert await object_store.open_uploads(bucket) == []
