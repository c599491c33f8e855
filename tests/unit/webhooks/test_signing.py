"""Signatures that receivers verify with what they have: the standard's libraries, or a line of HMAC."""

import base64
import hashlib
import hmac
import time

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from comfyworker.webhooks.signing import make_headers

BODY = '{"id":"job-1","prompt":"ein Hügel"}'.encode()


def test_the_example_of_the_standard() -> None:
    """The secret, id, time and body of the standard's own libraries give the signature that these give."""
    headers = make_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        secret=SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        now=1614265330.9,
    )
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["whsec_NWVjcmU3", "NWVjcmU3", "shared-secret-for-signing"])
def test_a_receiver_with_the_library_verifies(secret: str) -> None:
    """Who hands the same text to the library reads it as we did."""
    headers = make_headers("msg_1", BODY, secret=SecretStr(secret), now=time.time())
    assert Webhook(secret).verify(BODY, headers) == {"id": "job-1", "prompt": "ein Hügel"}
    with pytest.raises(WebhookVerificationError):
        Webhook("NWVjcmU4").verify(BODY, headers)


@pytest.mark.parametrize("secret", ["x", "-", "schlüssel", "whsec_", "abcde"])
def test_a_secret_that_is_no_base64_is_a_key_as_it_stands(secret: str) -> None:
    """Where the library would refuse the text, its bytes are the key."""
    headers = make_headers("msg_1", BODY, secret=SecretStr(secret), now=time.time())
    Webhook(secret.encode()).verify(BODY, headers)


def test_clients_of_comfyui_api_wrapper_verify() -> None:
    """Their header is the HMAC of the body, keyed with the secret's text."""
    secret = f"whsec_{base64.b64encode(b'key').decode()}"
    headers = make_headers("msg_1", BODY, secret=SecretStr(secret), now=1000)
    assert headers["X-Webhook-Signature"] == f"sha256={hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize("secret", [None, SecretStr("")])
def test_unsigned(secret: SecretStr | None) -> None:
    """Without a secret there is the id and the time, and no signature."""
    assert make_headers("msg_1", BODY, secret=secret, now=1000.9) == {
        "Content-Type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": "1000",
    }
