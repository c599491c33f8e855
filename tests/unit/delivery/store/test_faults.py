"""What storages refuse, in words for people."""

import pytest
from pydantic import SecretStr

from comfyworker.delivery.store import StoreKind
from comfyworker.delivery.store.faults import Refusal, StoreFault, explain, read_refusal
from comfyworker.delivery.store.location import StoreLocation

LOCATION = StoreLocation(
    kind=StoreKind.S3,
    endpoint="https://s3.eu-west-1.amazonaws.com",
    bucket="b",
    region="eu-west-1",
    access_key_id=SecretStr("AKIA"),
    secret_access_key=SecretStr("secret"),
)
OF_REQUEST = LOCATION.model_copy(update={"is_foreign": True, "from_request": frozenset({"access_key_id", "bucket"})})


def answered(code: str, status: int, more: str = "", *, location: StoreLocation = LOCATION) -> StoreFault:
    """Return what an S3 error document means."""
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>Some words</Message>{more}</Error>'
    return explain(read_refusal(body, status), location)


@pytest.mark.parametrize(
    ("code", "status", "reason", "name"),
    [
        ("InvalidAccessKeyId", 403, "it does not know the access key", "BUCKET_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, "the secret key does not belong to the access key", "BUCKET_SECRET_ACCESS_KEY"),
        ("AccessDenied", 403, "the keys may not write there", "BUCKET_ACCESS_KEY_ID"),
        ("NoSuchBucket", 404, "there is no such bucket", "BUCKET_NAME"),
        ("InvalidBucketName", 400, "that is no name for a bucket", "BUCKET_NAME"),
        ("ExpiredToken", 400, "the temporary keys have expired", "BUCKET_SESSION_TOKEN"),
        ("EntityTooLarge", 400, "the file is larger than it takes", ""),
        ("AccessControlListNotSupported", 400, "its bucket takes no ACLs", "BUCKET_ACL"),
    ],
)
def test_codes_that_will_come_again(code: str, status: int, reason: str, name: str) -> None:
    """Each says what is wrong and which setting to look at, and is not tried again."""
    fault = answered(code, status)
    assert fault.reason == f"{reason} ({code})"
    assert name in (fault.hint or "")
    assert not fault.may_pass


def test_a_requests_fields_are_named_where_the_request_brought_them() -> None:
    """The reader is told of what can be changed: the request's field, not the worker's variable."""
    hint = answered("NoSuchBucket", 404, location=OF_REQUEST).hint or ""
    assert "input.s3.bucket_name" in hint
    assert "BUCKET" not in hint


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("", 502), ("", 429)])
def test_what_may_pass(code: str, status: int) -> None:
    """An overloaded storage may take the same later."""
    fault = answered(code, status)
    assert fault.reason == f"it is overloaded or failing ({code or status})"
    assert fault.may_pass


@pytest.mark.parametrize(
    ("code", "status", "more"),
    [
        ("AuthorizationHeaderMalformed", 400, "<Region>eu-central-1</Region>"),
        ("PermanentRedirect", 301, "<Region>eu-central-1</Region>"),
        ("IllegalLocationConstraintException", 400, "<Region>eu-central-1</Region>"),
    ],
)
def test_the_region_that_it_expects(code: str, status: int, more: str) -> None:
    """A wrong region is named together with the right one."""
    fault = answered(code, status, more)
    assert fault.reason == "the bucket is in the region 'eu-central-1', not in 'eu-west-1'"
    assert fault.hint == "Set BUCKET_REGION to 'eu-central-1'."


def test_the_region_within_the_message() -> None:
    """Some tell the region in words only, some not at all."""
    body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>'x' is wrong; expecting 'auto'</Message></Error>"
    assert explain(read_refusal(body, 400), LOCATION).hint == "Set BUCKET_REGION to 'auto'."
    assert explain(Refusal(301, "PermanentRedirect"), LOCATION).reason.startswith("the bucket is in another region")


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        (
            "<RequestTime>20260101T120000Z</RequestTime><ServerTime>2026-01-01T11:00:00Z</ServerTime>",
            "this machine's clock is 60 minutes ahead of the storage's",
        ),
        (
            "<RequestTime>20260101T120000Z</RequestTime><ServerTime>2026-01-01T12:20:10Z</ServerTime>",
            "this machine's clock is 20 minutes behind the storage's",
        ),
        ("", "this machine's clock differs from the storage's by more than it takes (15 minutes on AWS)"),
    ],
)
def test_clocks_that_differ(times: str, reason: str) -> None:
    """By how much is told where the storage tells it, as AWS does."""
    fault = answered("RequestTimeTooSkewed", 403, times)
    assert fault.reason == reason
    assert "clock" in (fault.hint or "")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "the keys may not write there (status 403)"),
        (404, "it has no such bucket, or is no storage (status 404)"),
        (413, "the file is larger than it takes (status 413)"),
        (418, "it answered status 418"),
    ],
)
def test_a_status_alone(status: int, reason: str) -> None:
    """What is no S3 error document is told by its status; nothing of its text is repeated."""
    fault = explain(read_refusal("<html>something about s3cr3t</html>", status), LOCATION)
    assert fault.reason == reason
    assert "s3cr3t" not in f"{fault.reason}{fault.hint}"


@pytest.mark.parametrize("network", ["dns", "refused", "tls", "timeout", "connect", "cut", "not_s3"])
def test_a_way_that_is_broken(network: str) -> None:
    """Each break has words of its own and names the endpoint's setting."""
    fault = explain(Refusal(network=network), LOCATION)
    assert "BUCKET_ENDPOINT_URL" in (fault.hint or "")
    assert fault.may_pass == (network not in {"tls", "not_s3"})
