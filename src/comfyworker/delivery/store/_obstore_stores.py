"""obstore's stores, made of a location and of nothing else.

obstore's constructors take what they are not given from AWS_…, GOOGLE_… and AZURE_… of the process. Those belong to
whatever else runs there, so all that could lead an upload elsewhere, or sign it with other keys, is given.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import AzureStore, GCSStore, S3Store

from comfyworker.delivery.store._azure_sas import azure_endpoint
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureCredential, ClientConfig, RetryConfig, S3Config, S3Credential
    from pydantic import SecretStr

_GOOGLE = "https://storage.googleapis.com"
_USER_AGENT = "comfyworker"
_LEFT_TO_OBSTORE = "AWS_CHECKSUM_ALGORITHM and AWS_SERVER_SIDE_ENCRYPTION"
"""What it takes from the environment all the same: neither has a value that means none."""


def make_store(
    location: StoreLocation, settings: StoreSettings, *, proxy_url: str | None = None
) -> S3Store | GCSStore | AzureStore:
    """Return a store for a location; nothing is asked of it yet.

    Args:
        location: Where it is, with its keys.
        settings: How often and how long it is tried.
        proxy_url: A proxy that all its connections go through.

    Raises:
        StoreFault: it cannot be made of what was given.
    """
    client = _client(location, settings, proxy_url)
    retry: RetryConfig = {
        "max_retries": location.attempts - 1,
        "retry_timeout": timedelta(seconds=settings.retry_within_s),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 2},
    }
    if location.kind is StoreKind.GCS:
        return _google(location, client, retry)
    if location.kind is StoreKind.AZURE:
        return _azure(location, client, retry)
    return _s3(location, client, retry)


def _client(location: StoreLocation, settings: StoreSettings, proxy_url: str | None) -> ClientConfig:
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=location.connect_timeout_s),
        "timeout": timedelta(seconds=settings.request_timeout_s),
        "allow_http": location.endpoint.startswith("http://"),
        "user_agent": _USER_AGENT,
    }
    if proxy_url is not None:
        client["proxy_url"] = proxy_url
    return client


def _s3(location: StoreLocation, client: ClientConfig, retry: RetryConfig) -> S3Store:
    is_host = location.addressing == "host"
    endpoint = location.base_url if is_host else location.endpoint
    config: S3Config = {
        "bucket": location.bucket,
        "region": location.region,
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "virtual_hosted_style_request": is_host,
        "skip_signature": location.is_anonymous,
        "unsigned_payload": False,
        "request_payer": False,
        "s3_express": False,
        "disable_tagging": True,
        "disable_bulk_delete": True,  # not every storage has it
        "copy_if_not_exists": "multipart",
        "conditional_put": "etag",
    }
    credential: S3Credential = {
        "access_key_id": _opened(location.access_key_id),
        "secret_access_key": _opened(location.secret_access_key),
        "token": _opened(location.session_token) or None,
        "expires_at": None,
    }
    try:
        # A provider beats every variable, a session token's among them.
        return S3Store(config=config, client_options=client, retry_config=retry, credential_provider=lambda: credential)
    except Exception:  # noqa: BLE001  # obstore's classes of errors overlap with Python's, and its text may hold a URL
        raise StoreFault(
            "it cannot be connected to: its endpoint cannot be used, or a variable of the environment does not let it",
            hint=f"Look at {location.name_of('endpoint_url')}, and unset {_LEFT_TO_OBSTORE}.",
        ) from None


def _google(location: StoreLocation, client: ClientConfig, retry: RetryConfig) -> GCSStore:
    key = _opened(location.secret_access_key)
    name = location.name_of("secret_access_key")
    try:
        account = json.loads(key)
        base_url = account.get("gcs_base_url") or _GOOGLE
        _ = account["client_email"], account["private_key"]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise StoreFault(
            "its key is not the JSON of a service account", hint=f"Set {name} to the whole text of the key file."
        ) from None  # the chain would show the key
    client["allow_http"] = str(base_url).startswith("http://")
    try:
        return GCSStore(
            location.bucket,
            config={"service_account_key": key, "base_url": str(base_url), "skip_signature": False},
            client_options=client,
            retry_config=retry,
        )
    except Exception:  # noqa: BLE001  # as for S3
        raise StoreFault(
            "its key cannot be used, or GOOGLE_SERVICE_ACCOUNT in the environment names another one",
            hint=f"Look at {name}, and unset GOOGLE_SERVICE_ACCOUNT.",
        ) from None


def _azure(location: StoreLocation, client: ClientConfig, retry: RetryConfig) -> AzureStore:
    account = _opened(location.access_key_id)
    credential: AzureCredential = {"access_key": _opened(location.secret_access_key), "expires_at": None}
    try:
        return AzureStore(
            location.bucket,
            config={
                "account_name": account,
                "endpoint": azure_endpoint(location),
                "use_emulator": False,
                "use_fabric_endpoint": False,
                "skip_signature": False,
                "disable_tagging": True,
            },
            client_options=client,
            retry_config=retry,
            credential_provider=lambda: credential,
        )
    except Exception:  # noqa: BLE001  # as for S3
        raise StoreFault(
            "its account or key cannot be used",
            hint=f"Look at {location.name_of('access_key_id')} and {location.name_of('secret_access_key')}.",
        ) from None


def _opened(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
