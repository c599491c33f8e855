"""What the environment says of the storage, and what a request says of it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from comfyworker.delivery.store._endpoint import parse_endpoint
from comfyworker.errors import InvalidRequest, InvalidSettings, Problem
from comfyworker.jobs import StoreOptions
from comfyworker.settings import StoreSettings

_REQUEST_NAMES = {"bucket": "bucket_name"}
_BUCKET_NAMES = {
    "endpoint_url": "BUCKET_ENDPOINT_URL",
    "bucket": "BUCKET_NAME",
    "access_key_id": "BUCKET_ACCESS_KEY_ID",
    "secret_access_key": "BUCKET_SECRET_ACCESS_KEY",
    "session_token": "BUCKET_SESSION_TOKEN",
    "region": "BUCKET_REGION",
    "connect_timeout_s": "BUCKET_CONNECT_TIMEOUT_S",
    "attempts": "BUCKET_ATTEMPTS",
}
_R2_NAMES = {
    **_BUCKET_NAMES,
    "endpoint_url": "R2_ENDPOINT",
    "bucket": "R2_BUCKET_NAME",
    "access_key_id": "R2_ACCESS_KEY_ID",
    "secret_access_key": "R2_SECRET_ACCESS_KEY",
}


def wire_name(field: str) -> str:
    """Return how a request spells a field of `StoreOptions`."""
    return _REQUEST_NAMES.get(field, field)


def variable_name(field: str, *, is_r2: bool) -> str:
    """Return the environment variable that sets a field of `StoreOptions`."""
    return (_R2_NAMES if is_r2 else _BUCKET_NAMES).get(field, field)


@dataclass(frozen=True)
class Side:
    """What one side says of the storage; a blank text is nothing."""

    is_request: bool = False
    is_r2: bool = False
    endpoint_url: str | None = None
    bucket: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str | None = None

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it says anything of."""
        return frozenset(name for name in _BUCKET_NAMES if getattr(self, name, None) is not None)

    @property
    def has_keys(self) -> bool:
        """Whether it brings a key, or half of one."""
        return self.access_key_id is not None or self.secret_access_key is not None

    def wrong(self, field: str, message: str, *, hint: str | None = None) -> InvalidRequest | InvalidSettings:
        """Return the error for what this side says; the message goes on after the field's name."""
        if self.is_request:
            wire = wire_name(field)
            told = f"input.s3.{wire} {message}"
            return InvalidRequest(told, hint=hint, problems=[Problem(message=told, path=f"s3.{wire}")])
        name = variable_name(field, is_r2=self.is_r2)
        return InvalidSettings(
            f"{name} {message}", hint=hint, problems=[Problem(message=f"{name} {message}", path=name)]
        )


def given_text(value: str | SecretStr | None) -> str | None:
    """Return a text that was given; None for a blank one."""
    opened = value.get_secret_value() if isinstance(value, SecretStr) else value
    return (opened or "").strip() or None


def settings_side(settings: StoreSettings) -> Side:
    """Return what the environment says: BUCKET_… or S3_…, else R2_… where those name no place.

    Raises:
        InvalidSettings: R2_… names a bucket, but no endpoint.
    """
    given = Side(
        endpoint_url=given_text(settings.endpoint_url),
        bucket=given_text(settings.bucket),
        access_key_id=given_text(settings.access_key_id),
        secret_access_key=given_text(settings.secret_access_key),
        session_token=given_text(settings.session_token),
        region=given_text(settings.region),
    )
    if given.endpoint_url is not None or given.bucket is not None:
        return given
    r2 = Side(
        is_r2=True,
        endpoint_url=given_text(settings.r2_endpoint_url),
        bucket=given_text(settings.r2_bucket),
        access_key_id=given_text(settings.r2_access_key_id),
        secret_access_key=given_text(settings.r2_secret_access_key),
    )
    if r2.bucket is not None:
        if r2.endpoint_url is None:
            raise r2.wrong("bucket", "is set, but R2_ENDPOINT is not", hint="Set R2_ENDPOINT, or BUCKET_ENDPOINT_URL.")
        return r2
    return r2 if r2.endpoint_url is not None and has_bucket(r2.endpoint_url) else given


def has_bucket(endpoint_url: str) -> bool:
    """Tell whether an endpoint names its bucket."""
    try:
        return parse_endpoint(endpoint_url).bucket is not None
    except ValueError:
        return False


def request_side(options: StoreOptions | None) -> Side:
    """Return what the request says."""
    if options is None:
        return Side(is_request=True)
    return Side(
        is_request=True,
        endpoint_url=given_text(options.endpoint_url),
        bucket=given_text(options.bucket),
        access_key_id=given_text(options.access_key_id),
        secret_access_key=given_text(options.secret_access_key),
        session_token=given_text(options.session_token),
        region=given_text(options.region),
    )
