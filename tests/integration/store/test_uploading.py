"""Files on their way into a real S3 server, which checks every signature."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from comfyworker.delivery.store import StoreDelivery, Stores
from comfyworker.jobs import Artifact, StoreOptions
from comfyworker.settings import StoreSettings
from support.object_store import DOMAIN, ObjectStore
from support.object_store_client import fetch
from support.object_store_proxy import StoreProxy
from support.store_files import MEBIBYTE, PART_BYTES, located, store_settings, written


async def delivered(settings: StoreSettings, *files: Artifact, request_id: str = "job") -> list[Artifact]:
    """Deliver files to where the settings say."""
    async with Stores(settings) as stores:
        return list(await StoreDelivery(stores, located(settings), request_id=request_id).deliver(files))


async def test_files_arrive_under_their_keys_with_urls_that_work(object_store: ObjectStore, tmp_path: Path) -> None:
    """Each file is stored with its media type under the job's key; its URL can be read by anybody."""
    bucket = await object_store.make_bucket()
    small = written(tmp_path / "a b+c#ü%20~[1].png", 70_000)
    large = written(tmp_path / "film.mp4", 17 * MEBIBYTE + 5, "video/mp4")
    empty = written(tmp_path / "empty.txt", 0, "text/plain")
    text = small.model_copy(update={"path": None, "text": "a text"})
    answers = await delivered(store_settings(object_store, bucket), small, text, large, empty)
    assert [answer.failure for answer in answers] == [None] * 4
    assert answers[1] == text
    assert await object_store.keys_in(bucket) == ["job/a b+c#ü%20~[1].png", "job/empty.txt", "job/film.mp4"]
    for answer in (answers[0], answers[2], answers[3]):
        assert answer.path is not None
        stored = await fetch(answer.url or "")
        assert (stored.status, stored.content_type) == (200, answer.content_type)
        assert stored.body == answer.path.read_bytes()
    assert await object_store.open_uploads(bucket) == []


async def test_a_url_ends_and_another_object_has_another(object_store: ObjectStore, tmp_path: Path) -> None:
    """A presigned URL opens its own object and says for how long."""
    bucket = await object_store.make_bucket()
    settings = store_settings(object_store, bucket, url_expires_s=1234)
    [first] = await delivered(settings, written(tmp_path / "a.png", 10))
    url = first.url or ""
    assert "X-Amz-Expires=1234&" in url
    assert (await fetch(url)).status == 200
    assert (await fetch(url.replace("/job/a.png", "/job/b.png"))).status == 403


async def test_urls_with_the_bucket_in_the_host(object_store: ObjectStore, tmp_path: Path) -> None:
    """What is signed for such a host opens the object there."""
    bucket = await object_store.make_bucket()
    port = urlsplit(object_store.endpoint_url).port
    await delivered(store_settings(object_store, bucket), written(tmp_path / "a b.png", 1000))
    settings = store_settings(object_store, bucket, endpoint_url=f"http://{DOMAIN}:{port}", addressing="host")
    async with Stores(settings) as stores:
        url = await (await stores.open(located(settings))).url("job/a b.png", expires_s=60)
    assert url.startswith(f"http://{bucket}.{DOMAIN}:{port}/job/a%20b.png?")
    here = url.replace(f"{bucket}.{DOMAIN}:{port}", f"127.0.0.1:{port}", 1)
    stored = await fetch(here, headers={"Host": f"{bucket}.{DOMAIN}:{port}"})
    assert (stored.status, len(stored.body)) == (200, 1000)


async def test_where_keys_begin_and_what_they_are_made_of(object_store: ObjectStore, tmp_path: Path) -> None:
    """The URL's own folder, then the prefix, then the template; a request's prefix takes the place of the setting's."""
    bucket = await object_store.make_bucket()
    endpoint = f"{object_store.endpoint_url}/{bucket}/url"
    settings = store_settings(
        object_store, bucket, endpoint_url=endpoint, prefix="set/", key_template="{node_id}/{stem}.{extension}"
    )
    file = written(tmp_path / "a.png", 10)
    async with Stores(settings) as stores:
        location = located(settings)
        await StoreDelivery(stores, location, request_id="job").deliver([file, file])
        await StoreDelivery(stores, location, request_id="job", prefix="own").deliver([file])
        await StoreDelivery(stores, location, request_id="job", prefix="").deliver([file])
    assert await object_store.keys_in(bucket) == [
        "url/9/a.png",
        "url/own/9/a.png",
        "url/set/9/a-2.png",
        "url/set/9/a.png",
    ]


async def test_a_public_url_takes_the_place_of_presigned_ones(object_store: ObjectStore, tmp_path: Path) -> None:
    """The answer has the public base and the quoted key, whatever the storage's own address is."""
    bucket = await object_store.make_bucket()
    settings = store_settings(object_store, bucket, public_url="https://cdn.example.org/x/", prefix="p")
    [answer] = await delivered(settings, written(tmp_path / "a b#?.png", 10))
    assert answer.url == "https://cdn.example.org/x/p/job/a%20b%23%3F.png"


async def test_an_acl_is_set_on_each_object(object_store: ObjectStore, tmp_path: Path) -> None:
    """With BUCKET_ACL=public-read anybody can read it without a signature; without it, nobody can."""
    bucket = await object_store.make_bucket()
    files = [written(tmp_path / "a b.png", 10), written(tmp_path / "b.png", PART_BYTES + 1)]
    await delivered(store_settings(object_store, bucket, acl="public-read"), *files)
    await delivered(store_settings(object_store, bucket), files[0], request_id="other")
    assert await object_store.is_public(bucket, "job/a b.png")
    assert await object_store.is_public(bucket, "job/b.png")
    assert not await object_store.is_public(bucket, "other/a b.png")


async def test_an_acl_that_is_refused_fails_the_file(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """An object that nobody was meant to be kept from has not arrived as it should, and does not stay."""
    bucket = await object_store.make_bucket()
    store_proxy.answer_error("PUT", "*", query="acl*", status=400, code="AccessControlListNotSupported")
    settings = store_settings(object_store.behind(store_proxy.url), bucket, acl="public-read")
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        [answer] = await delivery.deliver([written(tmp_path / "a.png", 10)])
    assert answer.failure is not None
    assert "takes no ACLs" in answer.failure.message
    assert "BUCKET_ACL" in (answer.failure.hint or "")
    assert await object_store.keys_in(bucket) == []


async def test_requests_are_what_r2_and_b2_take(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """No checksum headers, no chunks within bodies, no tags; the bucket in the path; parts of one size but the last."""
    bucket = await object_store.make_bucket()
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    size_bytes = 3 * PART_BYTES + 1000
    await delivered(settings, written(tmp_path / "a.png", 1000), written(tmp_path / "b.mp4", size_bytes))
    sent = store_proxy.requests
    assert sent
    for request in sent:
        names = {name.lower() for name in request.headers}
        assert not {
            name for name in names if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-tagging"))
        }
        assert "aws-chunked" not in request.headers.get("Content-Encoding", "")
        assert not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING")
        assert request.path.startswith(f"/{bucket}/")
    sizes = [int(request.headers["Content-Length"]) for request in sent if "partNumber" in request.query_string]
    assert sorted(sizes) == [1000, PART_BYTES, PART_BYTES, PART_BYTES]


async def test_many_files_at_once(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """All arrive, in order in the answer; no more are on their way at once than the setting says."""
    bucket = await object_store.make_bucket()
    files = [written(tmp_path / f"{number}.png", 1000 + number) for number in range(30)]
    held = store_proxy.hold("PUT", "*", times=2)
    ended: list[str] = []
    settings = store_settings(object_store.behind(store_proxy.url), bucket, parallel=2)
    async with Stores(settings) as stores, asyncio.TaskGroup() as group:
        delivery = StoreDelivery(
            stores, located(settings), request_id="job", on_artifact=lambda artifact: ended.append(artifact.name)
        )
        task = group.create_task(delivery.deliver(files))
        await held.met.wait()
        # What is held holds up all the others: with two places, nothing else has come.
        assert store_proxy.count("PUT", "*") <= 2
        assert ended == []
        held.release()
        answers = await task
    assert [answer.name for answer in answers] == [file.name for file in files]
    assert all(answer.url is not None for answer in answers)
    assert sorted(ended) == sorted(file.name for file in files)
    assert len(await object_store.keys_in(bucket)) == 30


async def test_connections_are_kept_from_job_to_job(object_store: ObjectStore) -> None:
    """One location is connected to once, however many jobs go there; another configuration is another connection."""
    settings = store_settings(object_store, "some-bucket")
    async with Stores(settings) as stores:
        location = located(settings)
        first, again = await stores.open(location), await stores.open(located(settings))
        other = await stores.open(located(settings, StoreOptions(bucket="another-bucket")))
    assert first is again
    assert other is not first


async def test_a_requests_own_bucket(object_store: ObjectStore, tmp_path: Path) -> None:
    """A request with its own bucket and keys overrides the environment."""
    own = await object_store.make_bucket()
    settings = StoreSettings.model_validate({"endpoint_url": object_store.endpoint_url, "bucket": "not-there"})
    options = StoreOptions(
        bucket=own,
        access_key_id=SecretStr(object_store.access_key_id),
        secret_access_key=SecretStr(object_store.secret_access_key),
        region=object_store.region,
    )
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings, options), request_id="job")
        [answer] = await delivery.deliver([written(tmp_path / "a.png", 10)])
    assert (await fetch(answer.url or "")).status == 200
    assert await object_store.keys_in(own) == ["job/a.png"]


async def test_the_processs_own_cloud_settings_are_not_taken(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_… of the process would lead elsewhere and sign with other keys; nothing of it is used."""
    odd = {
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other-token",
        "AWS_TOKEN": "other-token",
        "AWS_REGION": "mars-1",
        "AWS_DEFAULT_REGION": "mars-1",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_BUCKET": "elsewhere",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_REQUEST_PAYER": "true",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x",
        "AWS_PROXY_URL": "http://127.0.0.1:1",
        "AWS_TIMEOUT": "1ms",
        "AWS_CONDITIONAL_PUT": "nonsense",
        "AWS_COPY_IF_NOT_EXISTS": "nonsense",
    }
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    bucket = await object_store.make_bucket()
    [answer] = await delivered(store_settings(object_store, bucket), written(tmp_path / "a.mp4", PART_BYTES + 10))
    assert answer.failure is None
    assert "other" not in (answer.url or "")
    assert (await fetch(answer.url or "")).status == 200


async def test_a_cancelled_job_takes_nothing_back_that_it_never_began(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """A job of the same id may have put it there before."""
    bucket = await object_store.make_bucket()
    files = [written(tmp_path / name, 10) for name in ("a.png", "b.png")]
    settings = store_settings(object_store.behind(store_proxy.url), bucket, parallel=1)
    async with Stores(settings) as stores:
        first = await StoreDelivery(stores, located(settings), request_id="same").deliver(files)
        assert [file.failure for file in first] == [None, None]
        held = store_proxy.hold("PUT", "*/a.png")
        second = asyncio.ensure_future(StoreDelivery(stores, located(settings), request_id="same").deliver(files))
        await held.met.wait()
        second.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await second
    assert "same/b.png" in await object_store.keys_in(bucket)
