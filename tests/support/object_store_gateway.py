"""Google Cloud Storage's XML interface before the object store, in its process and with its interpreter.

Google gives out no server of its own store, and those of others look at no signature. The interface is S3's, but for
who asks: this checks that as Google's documentation says, then asks the object store in the owner's name.

- Bearer tokens that the service account signed itself: https://google.aip.dev/auth/4111
- Signed URLs, GOOG4-RSA-SHA256: https://cloud.google.com/storage/docs/authentication/canonical-requests
"""
# mypy: ignore-errors
# The line above: eventlet and cryptography are not in our environment.

import base64
import calendar
import hashlib
import hmac
import json
import time
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HOST = "storage.googleapis.com"
"""The Host that a signed URL is for, wherever the tests serve it."""
EMAIL = "tests@comfyworker.iam.gserviceaccount.com"
KEY_ID = "1f0"
SIGNED_RESOURCES = ("partNumber", "uploadId", "uploads")


class Refused(Exception):
    """The request is not allowed."""

    def __init__(self, status: str, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Gateway:
    """The WSGI application before the one of the object store."""

    def __init__(self, store: Any, access_key_id: str, secret_access_key: str) -> None:
        self.store = store
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def service_account(self, url: str) -> dict[str, str]:
        """Return what Google gives as the service account's file, for a store at `url`."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "private_key": pem.decode(),
            "private_key_id": KEY_ID,
            "client_email": EMAIL,
            "gcs_base_url": url,
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer one request."""
        try:
            query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            if any(name == "X-Goog-Signature" for name, _ in query):
                self._check_url(environ["REQUEST_METHOD"], environ["RAW_PATH_INFO"], query)
            else:
                self._check_token(environ.get("HTTP_AUTHORIZATION", ""))
        except Refused as refusal:
            body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{refusal.code}</Code></Error>'.encode()
            start_response(refusal.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        return self.store(self._in_owners_name(environ, query), start_response)

    def _check_token(self, header: str) -> None:
        kind, _, token = header.partition(" ")
        message, _, signature = token.rpartition(".")
        try:
            head, claims = (json.loads(_decode(part)) for part in message.split("."))
            self._verify(_decode(signature), message)
            is_valid = (kind, head["alg"], head["kid"], claims["iss"]) == ("Bearer", "RS256", KEY_ID, EMAIL)
            is_valid = is_valid and claims["sub"] == EMAIL and claims["iat"] - 300 <= time.time() <= claims["exp"]
        except (ValueError, KeyError):
            is_valid = False
        if not is_valid:
            raise Refused("401 Unauthorized", "AuthenticationRequired")

    def _check_url(self, method: str, path: str, query: list[tuple[str, str]]) -> None:
        given = dict(query)
        signature = given.pop("X-Goog-Signature")
        signed = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in given.items())
        written = "&".join(f"{name}={value}" for name, value in signed)
        canonical = f"{method}\n{path}\n{written}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD"
        date, scope = given["X-Goog-Date"], given["X-Goog-Credential"].partition("/")[2]
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        try:
            self._verify(bytes.fromhex(signature), f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{digest}")
        except ValueError:
            raise Refused("403 Forbidden", "SignatureDoesNotMatch") from None
        signed_at = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        if time.time() > signed_at + int(given["X-Goog-Expires"]):
            raise Refused("400 Bad Request", "ExpiredToken")

    def _verify(self, signature: bytes, message: str) -> None:
        try:
            self.key.public_key().verify(signature, message.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as error:
            raise ValueError("wrong signature") from error

    def _in_owners_name(self, environ: dict[str, Any], query: list[tuple[str, str]]) -> dict[str, Any]:
        """Return the request as the object store wants it, signed with AWS's Version 2."""
        kept = [(name, value) for name, value in query if not name.startswith("X-Goog-")]
        resources = [f"{name}={value}" if value else name for name, value in sorted(kept) if name in SIGNED_RESOURCES]
        path = quote(environ["PATH_INFO"].encode("latin-1"))
        date, content_type = formatdate(usegmt=True), environ.get("CONTENT_TYPE") or ""
        target = path + ("?" + "&".join(resources) if resources else "")
        text = "\n".join([environ["REQUEST_METHOD"], environ.get("HTTP_CONTENT_MD5", ""), content_type, date, target])
        digest = hmac.new(self.secret_access_key.encode(), text.encode(), hashlib.sha1).digest()
        headers = {name: value for name, value in environ.items() if not name.startswith("HTTP_X_GOOG_")}
        return {
            **headers,
            "HTTP_AUTHORIZATION": f"AWS {self.access_key_id}:{base64.b64encode(digest).decode()}",
            "HTTP_DATE": date,
            "QUERY_STRING": "&".join(f"{name}={quote(value)}" if value else name for name, value in kept),
            "RAW_PATH_INFO": path,
            "headers_raw": (),
        }


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
