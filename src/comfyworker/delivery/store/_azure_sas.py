"""URLs of Azure's blobs that work for a time.

obstore signs the quoted path, so that its URLs are refused for every key that must be quoted.
https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from comfyworker.delivery.store._sigv4 import quote_key
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.location import StoreLocation

_VERSION = "2020-12-06"
_FIELDS_AFTER_RESOURCE = 7
"""Snapshot time, encryption scope and five headers of the answer, none of which we set; each is an empty line."""


def azure_endpoint(location: StoreLocation) -> str:
    """Return where the account's containers are."""
    account = location.access_key_id.get_secret_value() if location.access_key_id else ""
    return location.endpoint or f"https://{account}.blob.core.windows.net"


def azure_url(location: StoreLocation, key: str, *, now: datetime, expires: timedelta) -> str:
    """Return a URL at which anybody can read a blob.

    Raises:
        StoreFault: the account's key is none.
    """
    account = location.access_key_id.get_secret_value() if location.access_key_id else ""
    secret = location.secret_access_key.get_secret_value() if location.secret_access_key else ""
    endpoint = azure_endpoint(location)
    protocol = "https" if endpoint.startswith("https://") else ""
    until = f"{(now + expires).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    resource = f"/blob/{account}/{location.bucket}/{key}"
    lines = ["r", "", until, resource, "", "", protocol, _VERSION, "b", *[""] * _FIELDS_AFTER_RESOURCE]
    try:
        opened = base64.b64decode(secret, validate=True)
    except ValueError:
        name = location.name_of("secret_access_key")
        raise StoreFault("its key is not base64, as the keys of Azure are", hint=f"Look at {name}.") from None
    signature = base64.b64encode(hmac.new(opened, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
    query = {"sv": _VERSION, "sr": "b", "sp": "r", "se": until, "spr": protocol, "sig": signature}
    given = {name: value for name, value in query.items() if value}
    return f"{endpoint}/{location.bucket}/{quote_key(key)}?{urlencode(given, quote_via=quote, safe='')}"
