"""Uploads that a storage refuses, or that the way there breaks."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from comfyworker.delivery.store import StoreDelivery, Stores
from comfyworker.jobs import Artifact
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_proxy import StoreProxy
from support.store_files import PART_BYTES, located, store_settings, written

ONCE = {"attempts": 1}


def failure_of(artifact: Artifact) -> str:
    """Return why an artifact did not arrive."""
    assert artifact.failure is not None
    return artifact.failure.message


async def failed(settings: StoreSettings, *files: Artifact) -> tuple[str, str]:
    """Deliver files, of which none arrives; return the failure of the first and the first hint."""
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        with structlog.testing.capture_logs() as logs:
            answers = await delivery.deliver(files)
    assert all(answer.url is None and answer.path is not None for answer in answers)
    told = f"{[answer.failure for answer in answers]} {logs}"
    secret = located(settings).secret_access_key
    assert secret is not None
    assert secret.get_secret_value() not in told
    assert "X-Amz" not in told
    assert [entry["event"] for entry in logs] == ["store.upload_failed"] * len(files)
    failure = answers[0].failure
    assert failure is not None
    return failure.message, failure.hint or ""


@pytest.fixture(params=[10, PART_BYTES + 10], ids=["one-piece", "parts"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    """Return a file that goes in one piece, then one that goes in parts: other requests, the same words."""
    return written(tmp_path / "a.png", request.param)


async def test_a_wrong_secret_key(object_store: ObjectStore, file: Artifact) -> None:
    """It says that the keys are no pair, and names both settings."""
    bucket = await object_store.make_bucket()
    failure, hint = await failed(store_settings(object_store, bucket, secret_access_key="wr0ng"), file)
    assert failure == (
        f"a.png could not be stored in bucket '{bucket}' at {object_store.endpoint_url}: "
        "the secret key does not belong to the access key (SignatureDoesNotMatch)"
    )
    assert hint == "Look at BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY: both must be of one pair."


async def test_an_access_key_that_aws_does_not_know(
    object_store: ObjectStore, store_proxy: StoreProxy, file: Artifact
) -> None:
    """AWS has a code of its own for that."""
    bucket = await object_store.make_bucket()
    store_proxy.answer_error("*", "*", status=403, code="InvalidAccessKeyId")
    failure, _ = await failed(store_settings(object_store.behind(store_proxy.url), bucket), file)
    assert failure.endswith("it does not know the access key (InvalidAccessKeyId)")


async def test_keys_without_rights(object_store: ObjectStore, file: Artifact) -> None:
    """It says what must be allowed."""
    bucket = await object_store.make_bucket()
    guest = object_store.guest
    settings = store_settings(
        object_store, bucket, access_key_id=guest.access_key_id, secret_access_key=guest.secret_access_key
    )
    failure, hint = await failed(settings, file)
    assert failure.endswith("the keys may not write there (AccessDenied)")
    assert "put and read objects" in hint


async def test_a_bucket_that_is_not_there(object_store: ObjectStore, file: Artifact) -> None:
    """It names the bucket and its setting."""
    failure, hint = await failed(store_settings(object_store, "not-there-at-all"), file)
    assert failure.startswith("a.png could not be stored in bucket 'not-there-at-all' at ")
    assert failure.endswith("there is no such bucket (NoSuchBucket)")
    assert hint == "Make it, or correct BUCKET_NAME."


async def test_a_name_that_is_none_for_a_bucket(object_store: ObjectStore, file: Artifact) -> None:
    """What we let pass, the storage may not."""
    failure, hint = await failed(store_settings(object_store, "Ab"), file)
    assert failure.endswith("that is no name for a bucket (InvalidBucketName)")
    assert "BUCKET_NAME" in hint


async def test_a_wrong_region(object_store: ObjectStore, file: Artifact) -> None:
    """It names the region that the storage expects."""
    bucket = await object_store.make_bucket()
    failure, hint = await failed(store_settings(object_store, bucket, region="mars-1"), file)
    assert failure.endswith(f"the bucket is in the region '{object_store.region}', not in 'mars-1'")
    assert hint == f"Set BUCKET_REGION to '{object_store.region}'."


async def test_clocks_that_differ(late_object_store: ObjectStore, file: Artifact) -> None:
    """It speaks of the clock, not of the keys."""
    failure, hint = await failed(store_settings(late_object_store, "any-bucket"), file)
    assert "this machine's clock differs from the storage's" in failure
    assert "NTP" in hint


async def test_nobody_listens(object_store: ObjectStore, file: Artifact) -> None:
    """A refused connection is told as that."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        failure, hint = await failed(store_settings(object_store, "b", endpoint_url=endpoint, **ONCE), file)
    assert failure.endswith("nothing listens there: the connection was refused")
    assert "BUCKET_ENDPOINT_URL" in hint


async def test_a_name_that_is_not_found(object_store: ObjectStore, file: Artifact) -> None:
    """A host that does not exist is told as that."""
    settings = store_settings(object_store, "b", endpoint_url="http://nowhere.invalid", **ONCE)
    failure, _ = await failed(settings, file)
    assert failure.endswith("the name of its host is not found")


async def test_no_safe_connection(object_store: ObjectStore, file: Artifact) -> None:
    """A host that does not speak TLS is told as that."""
    endpoint = object_store.endpoint_url.replace("http://", "https://")
    failure, hint = await failed(store_settings(object_store, "b", endpoint_url=endpoint, **ONCE), file)
    assert "no safe connection could be made" in failure
    assert "https" in hint


async def test_a_storage_that_does_not_answer(
    object_store: ObjectStore, store_proxy: StoreProxy, file: Artifact
) -> None:
    """The request's time limit ends it."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("*", "*", times=100)
    settings = store_settings(object_store.behind(store_proxy.url), bucket, request_timeout_s=0.3, **ONCE)
    failure, hint = await failed(settings, file)
    held.release()
    assert failure.endswith("it did not answer in time")
    assert "BUCKET_REQUEST_TIMEOUT_S" in hint


@asynccontextmanager
async def web_server(answer: bytes) -> AsyncIterator[str]:
    """Serve one answer to whatever is asked; yield the server's URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_what_is_no_s3(object_store: ObjectStore, file: Artifact) -> None:
    """A web server that says yes to everything has stored nothing."""
    async with web_server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello") as url:
        failure, _ = await failed(store_settings(object_store, "b", endpoint_url=url, **ONCE), file)
    assert failure.endswith("it answers, but not as S3 does")


async def test_a_redirect_that_leads_nowhere(object_store: ObjectStore, file: Artifact) -> None:
    """AWS answers so for buckets of other regions."""
    async with web_server(b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as url:
        failure, hint = await failed(store_settings(object_store, "b", endpoint_url=url, **ONCE), file)
    assert "the bucket is in another region than" in failure
    assert hint == "Look at BUCKET_REGION and BUCKET_ENDPOINT_URL."


async def test_one_failure_stops_nobody_else(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """The others arrive and are told of as they come; the order stays."""
    bucket = await object_store.make_bucket()
    store_proxy.answer_error("PUT", "*/b.png", status=403, code="AccessDenied")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    files = [written(tmp_path / f"{name}.png", 1000) for name in "abc"]
    ended: list[Artifact] = []
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job", on_artifact=ended.append)
        answers = await delivery.deliver(files)
    assert [answer.failure is None for answer in answers] == [True, False, True]
    assert await object_store.keys_in(bucket) == ["job/a.png", "job/c.png"]
    assert sorted(ended, key=lambda artifact: artifact.name) == [answers[0], answers[2]]


async def test_a_file_that_is_gone(object_store: ObjectStore, tmp_path: Path) -> None:
    """The failure is the file's, and says so without its path."""
    bucket = await object_store.make_bucket()
    gone = written(tmp_path / "a.png", 1000)
    (tmp_path / "a.png").unlink()
    failure, _ = await failed(store_settings(object_store, bucket), gone)
    assert failure.endswith("the file could not be read: No such file or directory")
    assert str(tmp_path) not in failure


async def test_a_file_that_becomes_shorter(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """Half a file is never made to look like a whole one, and no upload stays open."""
    bucket = await object_store.make_bucket()
    file = written(tmp_path / "a.mp4", 5 * PART_BYTES)
    held = store_proxy.hold("POST", "*", query="uploads*")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    async with Stores(settings) as stores, asyncio.TaskGroup() as group:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        task = group.create_task(delivery.deliver([file]))
        await held.met.wait()
        with (tmp_path / "a.mp4").open("r+b") as shortened:
            shortened.truncate(3 * PART_BYTES)
        held.release()
        [answer] = await task
    assert "the file became shorter while it was read" in failure_of(answer)
    assert await object_store.keys_in(bucket) == []
    assert await object_store.open_uploads(bucket) == []


@pytest.mark.parametrize("query", ["uploads*", "partNumber=2&*", "uploadId=*"], ids=["create", "part", "complete"])
async def test_a_storage_that_is_overloaded_for_a_moment(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path, query: str
) -> None:
    """Whatever request meets a 503, it is made again, and the file is whole."""
    bucket = await object_store.make_bucket()
    fault = store_proxy.answer_error("*", "*", query=query, status=503, code="SlowDown", times=2)
    file = written(tmp_path / "a.mp4", 3 * PART_BYTES)
    assert (await arrived(object_store, store_proxy, bucket, file)) == (tmp_path / "a.mp4").read_bytes()
    assert fault.hits == 2


async def test_a_connection_cut_within_a_part(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """The part is sent again, and the file is whole."""
    bucket = await object_store.make_bucket()
    fault = store_proxy.cut_body("PUT", "*", query="partNumber=2&*", after_bytes=1_000_000, times=2)
    file = written(tmp_path / "a.mp4", 3 * PART_BYTES)
    assert (await arrived(object_store, store_proxy, bucket, file)) == (tmp_path / "a.mp4").read_bytes()
    assert fault.hits == 2


async def test_a_503_within_a_part(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """An answer that comes before the body is through is understood, too."""
    bucket = await object_store.make_bucket()
    fault = store_proxy.answer_in_body(
        "PUT", "*", query="partNumber=1&*", after_bytes=100_000, status=503, code="SlowDown"
    )
    file = written(tmp_path / "a.mp4", 3 * PART_BYTES)
    assert (await arrived(object_store, store_proxy, bucket, file)) == (tmp_path / "a.mp4").read_bytes()
    assert fault.hits == 1


async def arrived(store: ObjectStore, proxy: StoreProxy, bucket: str, file: Artifact) -> bytes:
    """Deliver a file through the proxy; return what lies in the bucket then."""
    settings = store_settings(store.behind(proxy.url), bucket)
    async with Stores(settings) as stores:
        [answer] = await StoreDelivery(stores, located(settings), request_id="job").deliver([file])
    assert answer.failure is None
    assert await store.open_uploads(bucket) == []
    return (await store.read(bucket, "job/a.mp4")).body


async def test_a_storage_that_stays_overloaded(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """After the attempts that are set, the file has failed; nothing of it stays behind."""
    bucket = await object_store.make_bucket()
    fault = store_proxy.answer_error("PUT", "*", query="partNumber=2&*", status=503, code="SlowDown", times=1000)
    settings = store_settings(object_store.behind(store_proxy.url), bucket, attempts=3)
    failure, hint = await failed(settings, written(tmp_path / "a.mp4", 3 * PART_BYTES))
    assert failure.endswith("it is overloaded or failing (SlowDown)")
    assert hint == "Try again later."
    assert fault.hits == 3
    assert await object_store.open_uploads(bucket) == []
    assert await object_store.keys_in(bucket) == []


async def test_names_that_look_like_answers(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """What a file is called has no say in what is told of a fault."""
    bucket = await object_store.make_bucket()
    name = 'inner- Status {status 403 <Code>InvalidAccessKeyId<_Code> "dns error".png'
    store_proxy.answer_error("PUT", "*", status=503, code="SlowDown", times=1000)
    settings = store_settings(object_store.behind(store_proxy.url), bucket, **ONCE)
    failure, _ = await failed(settings, written(tmp_path / name, 10))
    assert failure.endswith("it is overloaded or failing (SlowDown)")
