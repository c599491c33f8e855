"""Our signer against AWS's own examples.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
from datetime import UTC, datetime

import pytest

from comfyworker.delivery.store._sigv4 import EMPTY_SHA256, Keys, sign

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"
STORED = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("method", "path", "headers", "payload", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"Range": "bytes=0-9"},
            EMPTY_SHA256,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            STORED,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/?lifecycle", {}, EMPTY_SHA256, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            {},
            EMPTY_SHA256,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_awss_examples(method: str, path: str, headers: dict[str, str], payload: str, signature: str) -> None:
    """Each example has the signature that AWS publishes for it."""
    made = sign(method, HOST + path, KEYS, now=NOW, headers=headers, payload_sha256=payload)
    assert made["Authorization"].endswith(f"Signature={signature}")


def test_a_session_token_is_sent_and_signed() -> None:
    """Temporary keys are useless without their token."""
    keys = Keys("ASIA", "secret", "eu-west-1", "the-token")
    made = sign("PUT", f"{HOST}/a?acl=", keys, now=NOW, headers={"x-amz-acl": "public-read"})
    assert made["x-amz-security-token"] == "the-token"
    assert "SignedHeaders=host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-security-token," in made["Authorization"]
    assert "secret" not in repr(keys)
    assert "the-token" not in repr(keys)
