"""Where outputs go, by what people write into the environment and into requests."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from yarl import URL

from comfyworker.delivery.store import StoreLocation, check_store_settings, find_location
from comfyworker.errors import InvalidRequest, InvalidSettings
from comfyworker.jobs import StoreOptions
from comfyworker.settings import StoreSettings, load_settings

ACCOUNT = "0123456789abcdef0123456789abcdef"
R2 = f"https://{ACCOUNT}.r2.cloudflarestorage.com"
SUPABASE = "https://abc.storage.supabase.co/storage/v1/s3"
KEYS = {"BUCKET_ACCESS_KEY_ID": "AKIA", "BUCKET_SECRET_ACCESS_KEY": "secret"}
OWN_KEYS: dict[str, Any] = {"access_key_id": SecretStr("own-id"), "secret_access_key": SecretStr("own-secret")}


def environment(**variables: str) -> StoreSettings:
    """Return the settings that an environment with keys gives."""
    return load_settings(KEYS | variables).store


def found(settings: StoreSettings, options: StoreOptions | None = None) -> StoreLocation:
    """Return the location, which is there."""
    location = find_location(settings, options)
    assert location is not None
    return location


def place(location: StoreLocation) -> tuple[str, str, str]:
    """Return the URL of the bucket, the region, and the prefix."""
    return location.base_url, location.region, location.prefix


@pytest.mark.parametrize(
    ("endpoint", "url", "region"),
    [
        ("https://b.s3.eu-central-1.amazonaws.com", "https://b.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://b.s3.eu-central-1.amazonaws.com/", "https://b.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://b.s3-us-west-2.amazonaws.com", "https://b.s3-us-west-2.amazonaws.com", "us-west-2"),
        ("https://b.s3.amazonaws.com", "https://b.s3.amazonaws.com", "us-east-1"),
        (
            "https://my.dotted.b.s3.eu-west-1.amazonaws.com",
            "https://s3.eu-west-1.amazonaws.com/my.dotted.b",
            "eu-west-1",
        ),
        ("https://s3.eu-west-1.amazonaws.com/b", "https://s3.eu-west-1.amazonaws.com/b", "eu-west-1"),
        ("s3.eu-west-1.amazonaws.com/b", "https://s3.eu-west-1.amazonaws.com/b", "eu-west-1"),
        (
            "https://s3.dualstack.eu-west-1.amazonaws.com/b",
            "https://s3.dualstack.eu-west-1.amazonaws.com/b",
            "eu-west-1",
        ),
        ("https://b.s3.cn-north-1.amazonaws.com.cn", "https://b.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://s3.us-gov-west-1.amazonaws.com/b", "https://s3.us-gov-west-1.amazonaws.com/b", "us-gov-west-1"),
        (f"{R2}/b", f"{R2}/b", "auto"),
        (f"https://b.{ACCOUNT}.r2.cloudflarestorage.com", f"https://b.{ACCOUNT}.r2.cloudflarestorage.com", "auto"),
        (
            f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com/b",
            f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com/b",
            "auto",
        ),
        (
            f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com/b",
            f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com/b",
            "auto",
        ),
        ("https://s3.us-west-004.backblazeb2.com/b", "https://s3.us-west-004.backblazeb2.com/b", "us-west-004"),
        ("https://b.s3.us-west-004.backblazeb2.com", "https://b.s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://nyc3.digitaloceanspaces.com/b", "https://nyc3.digitaloceanspaces.com/b", "nyc3"),
        ("https://b.nyc3.digitaloceanspaces.com", "https://b.nyc3.digitaloceanspaces.com", "nyc3"),
        ("https://s3.eu-central-2.wasabisys.com/b", "https://s3.eu-central-2.wasabisys.com/b", "eu-central-2"),
        ("https://storage.googleapis.com/b", "https://storage.googleapis.com/b", "auto"),
        ("https://b.storage.googleapis.com", "https://b.storage.googleapis.com", "auto"),
        ("http://localhost:9000/b", "http://localhost:9000/b", "us-east-1"),
        ("minio:9000/b", "https://minio:9000/b", "us-east-1"),
        ("http://[::1]:9000/b", "http://[::1]:9000/b", "us-east-1"),
        (f"{SUPABASE}/b", f"{SUPABASE}/b", "us-east-1"),
        ("s3://b", "https://s3.amazonaws.com/b", "us-east-1"),
    ],
)
def test_the_endpoint_alone_names_bucket_and_region(endpoint: str, url: str, region: str) -> None:
    """Whatever way people write an endpoint, its bucket is used where it stands, in the region that it names."""
    assert place(found(environment(BUCKET_ENDPOINT_URL=endpoint))) == (url, region, "")


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com/b"),
        ("https://b.s3.eu-west-1.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com"),
        (R2, f"{R2}/b"),
        (f"{R2}/b", f"{R2}/b"),
        ("https://minio.example.org", "https://minio.example.org/b"),
        ("https://minio.example.org/b", "https://minio.example.org/b"),
        ("https://b.minio.example.org", "https://b.minio.example.org"),
        (SUPABASE, f"{SUPABASE}/b"),
    ],
)
def test_a_bucket_beside_the_endpoint(endpoint: str, url: str) -> None:
    """BUCKET_NAME names the bucket, also where the endpoint names the same one in its host or path."""
    assert found(environment(BUCKET_ENDPOINT_URL=endpoint, BUCKET_NAME="b")).base_url == url


@pytest.mark.parametrize("endpoint", ["https://a.s3.eu-west-1.amazonaws.com", f"{R2}/a", "https://minio.example.org/a"])
def test_two_different_buckets_are_an_error_that_names_both(endpoint: str) -> None:
    """Neither is guessed to be the right one."""
    with pytest.raises(InvalidSettings, match="BUCKET_NAME is 'b', but the endpoint has the bucket 'a'") as caught:
        find_location(environment(BUCKET_ENDPOINT_URL=endpoint, BUCKET_NAME="b"))
    assert caught.value.problems[0].path == "BUCKET_NAME"


def test_without_any_bucket_the_usual_one_is_taken() -> None:
    """The endpoint alone turns it on; its bucket is then comfyui-outputs."""
    assert found(environment(BUCKET_ENDPOINT_URL=R2)).bucket == "comfyui-outputs"


def test_the_path_goes_on_below_the_bucket() -> None:
    """What follows the bucket in the endpoint's path is a folder for all keys."""
    location = found(environment(BUCKET_ENDPOINT_URL=f"{R2}/b/some/folder/"))
    assert (location.bucket, location.prefix) == ("b", "some/folder")
    location = found(environment(BUCKET_ENDPOINT_URL="s3://b/folder", BUCKET_REGION="eu-west-1"))
    assert place(location) == ("https://s3.eu-west-1.amazonaws.com/b", "eu-west-1", "folder")


def test_a_region_makes_awss_global_endpoint_usable() -> None:
    """s3.amazonaws.com answers for us-east-1 only, so the region's own endpoint is asked."""
    variables = {"S3_ENDPOINT_URL": "https://s3.amazonaws.com", "S3_BUCKET_NAME": "b", "S3_REGION": "eu-west-1"}
    assert found(environment(**variables)).base_url == "https://s3.eu-west-1.amazonaws.com/b"
    assert (
        found(environment(BUCKET_NAME="b", BUCKET_REGION="eu-west-1")).base_url
        == "https://s3.eu-west-1.amazonaws.com/b"
    )
    in_host = environment(BUCKET_ENDPOINT_URL="https://b.s3.amazonaws.com", BUCKET_REGION="eu-west-1")
    assert found(in_host).base_url == "https://b.s3.eu-west-1.amazonaws.com"


def test_a_region_that_is_set_wins_over_the_endpoints() -> None:
    """Storages of one's own often want a region that no host tells."""
    assert found(environment(BUCKET_ENDPOINT_URL=f"{R2}/b", BUCKET_REGION="wnam")).region == "wnam"


def test_addressing_that_is_set_wins() -> None:
    """The bucket is put into the host, or into the path, where the worker's operator says so."""
    in_host = environment(BUCKET_ENDPOINT_URL="https://oss.example.org", BUCKET_NAME="b", BUCKET_ADDRESSING="host")
    assert found(in_host).base_url == "https://b.oss.example.org"
    in_path = environment(BUCKET_ENDPOINT_URL="https://b.s3.eu-west-1.amazonaws.com", BUCKET_ADDRESSING="path")
    assert found(in_path).base_url == "https://s3.eu-west-1.amazonaws.com/b"


def test_nothing_set_is_no_storage() -> None:
    """Keys, a region or blank fields alone turn nothing on; models' R2 is not for outputs."""
    blank = StoreOptions(endpoint_url="", bucket=" ", access_key_id=SecretStr(""), region="")
    assert find_location(environment(BUCKET_REGION="eu-west-1")) is None
    assert find_location(environment(), blank) is None
    r2 = {"R2_ENDPOINT": R2, "R2_ACCESS_KEY_ID": "k", "R2_SECRET_ACCESS_KEY": "s"}
    assert find_location(environment(**r2)) is None
    assert not check_store_settings(environment(**r2))


@pytest.mark.parametrize("where", [{"R2_ENDPOINT": R2, "R2_BUCKET_NAME": "b"}, {"R2_ENDPOINT": f"{R2}/b"}])
def test_r2_with_a_bucket(where: dict[str, str]) -> None:
    """R2_… is taken with its own keys where it has a bucket."""
    location = found(environment(**where, R2_ACCESS_KEY_ID="r2-id", R2_SECRET_ACCESS_KEY="r2-secret"))
    assert place(location) == (f"{R2}/b", "auto", "")
    assert location.access_key_id == SecretStr("r2-id")
    assert location.name_of("access_key_id") == "R2_ACCESS_KEY_ID"


def test_bucket_settings_win_over_r2() -> None:
    """R2_… counts only where BUCKET_… names no place."""
    location = found(environment(BUCKET_ENDPOINT_URL="https://minio.example.org/b", R2_ENDPOINT=R2, R2_BUCKET_NAME="r"))
    assert location.base_url == "https://minio.example.org/b"


def test_other_storages() -> None:
    """gs:, az: and file: are the environment's."""
    google = found(environment(BUCKET_ENDPOINT_URL="gs://b/folder"))
    assert (google.kind, google.bucket, google.prefix) == ("gcs", "b", "folder")
    azure = found(environment(BUCKET_ENDPOINT_URL="az://box/folder"))
    assert (azure.kind, azure.bucket, azure.prefix) == ("azure", "box", "folder")
    folder = found(load_settings({"BUCKET_ENDPOINT_URL": "file:///srv/some%20outputs"}).store)
    assert (folder.kind, str(folder.folder)) == ("file", "/srv/some outputs")


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://host/b",
        "https://",
        "https://user:pass@host/b",
        "https://host/b?versionId=3",
        "https://ho st/b",
        "https://host:port/b",
        "https://host/../b",
        "file://elsewhere/folder",
        "gs://",
    ],
)
def test_an_endpoint_that_cannot_be(endpoint: str) -> None:
    """It is refused at the start; the message names the variable and shows nothing of a password."""
    settings = environment(BUCKET_ENDPOINT_URL=endpoint)
    for ask in (find_location, check_store_settings):
        with pytest.raises(InvalidSettings, match=r"^BUCKET_ENDPOINT_URL ") as caught:
            ask(settings)
        assert "pass@" not in caught.value.message


@pytest.mark.parametrize("bucket", ["a/b", "..", "-", "b?c", "b c", "x" * 300])
def test_a_bucket_that_cannot_be(bucket: str) -> None:
    """A bucket is a name, never a path or a part of a URL."""
    with pytest.raises(InvalidSettings, match=r"^BUCKET_NAME "):
        find_location(environment(BUCKET_ENDPOINT_URL=R2, BUCKET_NAME=bucket))
    with pytest.raises(InvalidRequest, match=r"^input\.s3\.bucket_name "):
        find_location(environment(BUCKET_ENDPOINT_URL=R2), StoreOptions(bucket=bucket))


def test_missing_keys_are_told_before_anything_runs() -> None:
    """S3 without keys is an error that names the variables; the start lets it pass, since requests may bring them."""
    settings = load_settings({"BUCKET_ENDPOINT_URL": f"{R2}/b", "BUCKET_ACCESS_KEY_ID": "k"}).store
    assert check_store_settings(settings)
    with pytest.raises(InvalidSettings, match="BUCKET_SECRET_ACCESS_KEY is missing"):
        find_location(settings)
    with pytest.raises(InvalidRequest, match=r"input\.s3\.secret_access_key is missing"):
        find_location(settings, StoreOptions(bucket="c"))
    assert found(settings, StoreOptions(**OWN_KEYS)).access_key_id == SecretStr("own-id")


def test_urls_cannot_live_longer_than_storages_allow() -> None:
    """More than 7 days are refused at the start."""
    with pytest.raises(InvalidSettings, match="BUCKET_URL_EXPIRES_S is 700000"):
        check_store_settings(environment(BUCKET_ENDPOINT_URL=f"{R2}/b", BUCKET_URL_EXPIRES_S="700000"))


PUBLIC = {
    "BUCKET_ENDPOINT_URL": f"{R2}/b/f",
    "BUCKET_PUBLIC_URL": "https://cdn.example.org",
    "BUCKET_ACL": "public-read",
}


def test_a_request_may_bring_everything() -> None:
    """Its own bucket elsewhere, with nothing of the worker's left: no key, public URL, ACL, region or folder."""
    options = StoreOptions(endpoint_url="https://minio.example.org", bucket="own", **OWN_KEYS)
    location = found(environment(**PUBLIC, BUCKET_REGION="wnam", BUCKET_SESSION_TOKEN="token"), options)
    assert place(location) == ("https://minio.example.org/own", "us-east-1", "")
    assert (location.access_key_id, location.session_token) == (SecretStr("own-id"), None)
    assert (location.public_url, location.acl, location.is_foreign) == (None, None, True)
    assert location.name_of("secret_access_key") == "input.s3.secret_access_key"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"bucket": "own"}, f"{R2}/own"),
        ({"endpoint_url": "https://minio.example.org/own"}, "https://minio.example.org/own"),
        ({"endpoint_url": "https://minio.example.org"}, "https://minio.example.org/b"),
        ({"endpoint_url": "https://own.s3.eu-west-1.amazonaws.com"}, "https://own.s3.eu-west-1.amazonaws.com"),
        ({"endpoint_url": R2, "bucket": "b"}, f"{R2}/b"),
        ({"region": "wnam"}, f"{R2}/b"),
    ],
)
def test_a_request_may_bring_a_part(options: dict[str, str], url: str) -> None:
    """Field by field, the request is over the environment."""
    settings = environment(BUCKET_ENDPOINT_URL=R2, BUCKET_NAME="b")
    location = found(settings, StoreOptions.model_validate(options))
    assert location.base_url == url
    assert location.access_key_id == SecretStr("AKIA")


def test_another_bucket_in_the_workers_host() -> None:
    """A request's bucket takes the place of the one that the worker's endpoint has in its host or path."""
    in_host = environment(BUCKET_ENDPOINT_URL="https://b.s3.eu-west-1.amazonaws.com")
    assert found(in_host, StoreOptions(bucket="own")).base_url == "https://own.s3.eu-west-1.amazonaws.com"
    location = found(environment(**PUBLIC), StoreOptions(bucket="own"))
    assert place(location) == (f"{R2}/own", "auto", "")
    assert (location.public_url, location.acl, location.is_foreign) == (None, None, False)


def test_the_workers_own_bucket_named_by_a_request_is_still_its_own() -> None:
    """Clients that send what the worker is set to anyway get the same as those that send nothing."""
    settings = environment(**PUBLIC)
    location = found(settings, StoreOptions(endpoint_url=f"{R2}/b/f", **OWN_KEYS))
    assert (location.is_foreign, location.public_url, location.acl) == (False, "https://cdn.example.org", "public-read")
    assert found(settings).acl == "public-read"


def test_a_region_for_the_requests_global_endpoint() -> None:
    """Vast's example: endpoint, bucket and region come with the request, the keys from anywhere."""
    options = StoreOptions(endpoint_url="https://s3.amazonaws.com", bucket="own", region="eu-west-1", **OWN_KEYS)
    assert found(environment(), options).base_url == "https://s3.eu-west-1.amazonaws.com/own"
    assert found(environment(**PUBLIC), options).base_url == "https://s3.eu-west-1.amazonaws.com/own"


@pytest.mark.parametrize("given", ["access_key_id", "secret_access_key"])
def test_half_a_pair_of_keys(given: str) -> None:
    """A request's key with the other half of the worker's pair can only fail, so the missing half is asked for."""
    missing = "secret_access_key" if given == "access_key_id" else "access_key_id"
    options = StoreOptions.model_validate({given: SecretStr("own")})
    with pytest.raises(InvalidRequest, match=rf"^input\.s3\.{missing} is missing") as caught:
        find_location(environment(BUCKET_ENDPOINT_URL=f"{R2}/b"), options)
    assert caught.value.problems[0].path == f"s3.{missing}"


def test_two_halves_of_one_pair() -> None:
    """The worker may keep the secret while requests say whose it is."""
    settings = load_settings({"BUCKET_ENDPOINT_URL": f"{R2}/b", "BUCKET_SECRET_ACCESS_KEY": "secret"}).store
    location = found(settings, StoreOptions(access_key_id=SecretStr("own-id")))
    assert (location.access_key_id, location.secret_access_key) == (SecretStr("own-id"), SecretStr("secret"))


def test_the_workers_token_goes_nowhere_else() -> None:
    """A session token belongs to the worker's keys, and is sent in clear: not with other keys, not to other hosts."""
    settings = environment(BUCKET_ENDPOINT_URL=f"{R2}/b", BUCKET_SESSION_TOKEN="token")
    assert found(settings, StoreOptions(bucket="own")).session_token == SecretStr("token")
    assert found(settings, StoreOptions(**OWN_KEYS)).session_token is None
    with pytest.raises(InvalidRequest, match="temporary"):
        find_location(settings, StoreOptions(endpoint_url="https://minio.example.org"))


@pytest.mark.parametrize("endpoint", ["file:///etc", "gs://b", "az://b", "ftp://h", "https://u:p@h/b"])
def test_a_request_can_only_bring_s3(endpoint: str) -> None:
    """No folder of this machine, no cloud that takes its keys from the environment."""
    with pytest.raises(InvalidRequest, match=r"^input\.s3\.endpoint_url ") as caught:
        find_location(environment(), StoreOptions(endpoint_url=endpoint, bucket="b", **OWN_KEYS))
    assert caught.value.problems[0].path == "s3.endpoint_url"


def test_a_request_beside_a_folder() -> None:
    """A bucket alone has no place there; with keys it means S3."""
    settings = load_settings({"BUCKET_ENDPOINT_URL": "file:///srv/outputs"}).store
    with pytest.raises(InvalidRequest, match="this worker puts outputs into a folder"):
        find_location(settings, StoreOptions(bucket="own"))
    location = found(settings, StoreOptions(bucket="own", region="eu-west-1", **OWN_KEYS))
    assert (location.kind, location.base_url) == ("s3", "https://s3.eu-west-1.amazonaws.com/own")
    assert location.folder is None


def test_a_request_with_keys_but_no_place() -> None:
    """It is told what is missing, instead of losing its outputs in base64."""
    with pytest.raises(InvalidRequest, match="neither an endpoint_url nor a bucket_name"):
        find_location(environment(), StoreOptions(**OWN_KEYS))


@pytest.mark.parametrize(("field", "value"), [("attempts", 0), ("connect_timeout_s", 0.0), ("region", "x.evil.org/")])
def test_a_request_with_figures_that_cannot_be(field: str, value: object) -> None:
    """Each is told by its name."""
    options = StoreOptions.model_validate({field: value, "bucket": "own"})
    with pytest.raises(InvalidRequest, match=rf"^input\.s3\.{field} "):
        find_location(environment(), options)


def test_a_request_cannot_hold_the_worker_up() -> None:
    """Attempts and timeouts of a request have an upper bound."""
    location = found(environment(BUCKET_NAME="b"), StoreOptions(attempts=10**9, connect_timeout_s=1e9))
    assert (location.attempts, location.connect_timeout_s) == (20, 60.0)


def test_no_secret_is_shown() -> None:
    """Neither the record's text nor its place for people has a key in it."""
    location = found(environment(BUCKET_ENDPOINT_URL=f"{R2}/b", BUCKET_SESSION_TOKEN="tokentext"))
    assert location.place == f"bucket 'b' at {R2}"
    for secret in ("AKIA", "secret'", "tokentext"):
        assert secret not in repr(location)
        assert secret not in location.model_dump_json()


ODD_TEXT = st.text(max_size=60) | st.from_regex(
    r"(https?|s3|file|gs|az)://[a-z0-9.:/@?#%\\\[\]-]{0,40}", fullmatch=True
)


@given(endpoint=ODD_TEXT, bucket=ODD_TEXT, region=ODD_TEXT)
def test_no_request_leads_anywhere_but_to_the_host_that_was_read(endpoint: str, bucket: str, region: str) -> None:
    """Whatever it brings, it is refused as a request is, or leads to an http(s) URL that reads only one way."""
    options = StoreOptions(endpoint_url=endpoint, bucket=bucket, region=region, **OWN_KEYS)
    try:
        location = find_location(StoreSettings(), options)
    except InvalidRequest:
        return
    if location is None:
        assert not endpoint.strip()
        return
    parts = urlsplit(location.base_url)
    assert parts.scheme in {"http", "https"}
    assert URL(location.base_url).host == parts.hostname
    assert location.base_url.isascii()
    assert not set(location.base_url) & set(" \\@?#\r\n\t")
    assert location.folder is None
