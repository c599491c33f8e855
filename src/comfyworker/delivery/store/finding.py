"""Where a job's outputs go: the worker's object storage, or the one that its request brings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from comfyworker.delivery.store._endpoint import Endpoint, parse_endpoint
from comfyworker.delivery.store._sides import Side, given_text, has_bucket, request_side, settings_side, variable_name
from comfyworker.delivery.store.keys import check_template
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import DEFAULT_REGION, StoreLocation
from comfyworker.errors import InvalidRequest, InvalidSettings, Problem
from comfyworker.jobs import StoreOptions
from comfyworker.settings import StoreSettings

DEFAULT_BUCKET = "comfyui-outputs"
_MAX_ATTEMPTS = 20
_MAX_EXPIRES_S = 604800
_MAX_CONNECT_TIMEOUT_S = 60.0
_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")


def find_location(settings: StoreSettings, options: StoreOptions | None = None) -> StoreLocation | None:
    """Return where a job's outputs go, the request over the environment, field by field; None if no storage is set.

    The environment's addressing, public URL and ACL belong to its own bucket, its session token to its own keys, its
    region to its own endpoint: none of them is carried over to what the request brings instead.

    Raises:
        InvalidRequest: what the request brings cannot be used.
        InvalidSettings: what the environment says cannot be used.
    """
    environment, request = settings_side(settings), request_side(options)
    is_set = environment.endpoint_url or environment.bucket or request.endpoint_url or request.bucket
    if not is_set:
        if not request.fields:
            return None
        raise InvalidRequest(
            "input.s3 names neither an endpoint_url nor a bucket_name, and the worker has no storage of its own",
            hint="Give both in input.s3, or set BUCKET_ENDPOINT_URL of the worker.",
        )
    return _Search(settings, environment, request, options or StoreOptions()).location()


def check_store_settings(settings: StoreSettings) -> bool:
    """Look at the environment's part before any job needs it; tell whether it names a storage at all.

    That keys are missing is no error here: requests may bring them, and `find_location` says so where none did.

    Raises:
        InvalidSettings: it cannot be used, whatever a request brings.
    """
    check_template(settings.key_template)
    environment = settings_side(settings)
    if environment.endpoint_url is None and environment.bucket is None:
        return False
    found = _Search(settings, environment, request_side(None), StoreOptions()).endpoint()
    if found.kind is not StoreKind.FILE and settings.url_expires_s > _MAX_EXPIRES_S:
        told = f"BUCKET_URL_EXPIRES_S is {settings.url_expires_s}, but URLs work for {_MAX_EXPIRES_S} seconds at most"
        problem = Problem(message=told, path="BUCKET_URL_EXPIRES_S", code="invalid_value")
        raise InvalidSettings(told, hint="That is 7 days. Set BUCKET_PUBLIC_URL for longer ones.", problems=[problem])
    return True


class _Search:
    """Brings together what the environment and the request say."""

    def __init__(self, settings: StoreSettings, environment: Side, request: Side, options: StoreOptions) -> None:
        self._settings = settings
        self._environment = environment
        self._request = request
        self._options = options
        # A request with keys but no endpoint means S3, also where the worker's own storage is of another kind.
        own = _kind_of(environment.endpoint_url)
        self._is_own_place = request.endpoint_url is None and not (request.has_keys and own is not StoreKind.S3)

    def location(self) -> StoreLocation:
        endpoint = self.endpoint()
        own = self._own_endpoint()
        region = self._region(endpoint, own)
        endpoint = endpoint.in_region(region)
        keys = self._keys(is_foreign=self._is_foreign(endpoint, own))
        location = StoreLocation(
            kind=endpoint.kind,
            endpoint="" if endpoint.kind is StoreKind.FILE else endpoint.base,
            folder=Path(endpoint.base) if endpoint.kind is StoreKind.FILE else None,
            bucket=endpoint.bucket or "",
            addressing=self._addressing(endpoint),
            region=region,
            prefix=endpoint.prefix,
            connect_timeout_s=self._connect_timeout_s(),
            attempts=self._attempts(),
            is_foreign=self._is_foreign(endpoint, own),
            from_request=self._request.fields,
            is_r2_group=self._environment.is_r2,
            access_key_id=keys.get("access_key_id") or (SecretStr(endpoint.account) if endpoint.account else None),
            secret_access_key=keys.get("secret_access_key"),
            session_token=keys.get("session_token"),
        )
        self._check_keys(location)
        is_own = (
            own is not None and (endpoint.kind, endpoint.bucket) == (own.kind, own.bucket) and not location.is_foreign
        )
        if not is_own:
            return location
        acl = self._settings.acl if endpoint.kind is StoreKind.S3 else None
        return location.model_copy(update={"public_url": given_text(self._settings.public_url), "acl": acl})

    def endpoint(self) -> Endpoint:
        """Return the endpoint with its bucket."""
        environment, request = self._environment, self._request
        if self._is_own_place and request.bucket is not None and environment.endpoint_url is not None:
            return self._replaced_bucket(request.bucket, environment.endpoint_url)
        side = environment if self._is_own_place and request.bucket is None else request
        bucket = request.bucket
        if bucket is None and (side is environment or not self._names_bucket(side.endpoint_url)):
            bucket = environment.bucket
        return self._parsed(side, side.endpoint_url if side is request else environment.endpoint_url, bucket)

    def _replaced_bucket(self, bucket: str, endpoint_url: str) -> Endpoint:
        """Return the environment's endpoint with the request's bucket in the place of its own."""
        found = self._parsed(self._environment, endpoint_url, self._environment.bucket)
        if found.kind is StoreKind.FILE:
            raise self._request.wrong(
                "bucket",
                "names a bucket, but this worker puts outputs into a folder",
                hint="Give endpoint_url, access_key_id and secret_access_key, too, or leave input.s3 out.",
            )
        _check_bucket(self._request, bucket)
        return found if found.bucket == bucket else replace(found, bucket=bucket, prefix="")

    def _names_bucket(self, endpoint_url: str | None) -> bool:
        return endpoint_url is not None and has_bucket(endpoint_url)

    def _parsed(self, side: Side, endpoint_url: str | None, bucket: str | None) -> Endpoint:
        if endpoint_url is None:
            found = Endpoint(StoreKind.S3, base="https://s3.amazonaws.com", is_global=True)
        else:
            try:
                found = parse_endpoint(endpoint_url, bucket=bucket)
            except ValueError as error:
                raise side.wrong("endpoint_url", str(error)) from None  # the URL is not to be shown
        if side.is_request and found.kind is not StoreKind.S3:
            raise side.wrong(
                "endpoint_url",
                "is not S3, which is all that a request can bring",
                hint="Give an https:// endpoint; other storage is set up in the worker's environment.",
            )
        if found.kind is StoreKind.FILE:
            return found
        if not found.base and found.kind is StoreKind.S3:
            found = replace(found, base="https://s3.amazonaws.com", is_global=True)
        return _with_bucket(side, found, bucket)

    def _own_endpoint(self) -> Endpoint | None:
        """Return where the environment alone would have outputs; None if it says nothing that can be used."""
        environment = self._environment
        if environment.endpoint_url is None and environment.bucket is None:
            return None
        try:
            found = self._parsed(environment, environment.endpoint_url, environment.bucket)
        except InvalidSettings:
            return None
        return found.in_region(environment.region or found.region or DEFAULT_REGION)

    def _is_foreign(self, endpoint: Endpoint, own: Endpoint | None) -> bool:
        if self._request.endpoint_url is None:
            return False
        return own is None or (own.kind, own.base) != (endpoint.kind, endpoint.base)

    def _region(self, endpoint: Endpoint, own: Endpoint | None) -> str:
        environment = self._environment.region
        if self._is_foreign(endpoint, own) and self._environment.endpoint_url is not None:
            environment = None
        is_told = endpoint.region is not None and self._request.endpoint_url is not None
        region = self._request.region or (endpoint.region if is_told else None) or environment or endpoint.region
        if region is None:
            return DEFAULT_REGION
        if not _REGION.fullmatch(region):
            side = self._request if self._request.region is not None else self._environment
            raise side.wrong("region", "is not the name of a region")
        return region

    def _addressing(self, endpoint: Endpoint) -> Literal["path", "host"]:
        chosen = "auto" if self._request.endpoint_url is not None else self._settings.addressing
        if chosen != "auto":
            return chosen
        # A dot in the bucket's name would leave the host's certificate behind.
        is_covered = "." not in (endpoint.bucket or "") or endpoint.base.startswith("http://")
        return "host" if endpoint.bucket_place == "host" and is_covered else "path"

    def _keys(self, *, is_foreign: bool) -> dict[str, SecretStr]:
        environment, request = self._environment, self._request
        for given, missing in (("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")):
            own, other = getattr(request, given), getattr(environment, given)
            if own is not None and getattr(request, missing) is None and other not in {None, own}:
                raise request.wrong(missing, f"is missing: it belongs to input.s3.{given}")
        found = {
            "access_key_id": request.access_key_id or environment.access_key_id,
            "secret_access_key": request.secret_access_key or environment.secret_access_key,
            # The worker's token belongs to its keys, and travels in clear to whoever holds the endpoint.
            "session_token": request.session_token
            or (None if is_foreign or request.has_keys else environment.session_token),
        }
        is_halved = environment.session_token is not None and found["session_token"] is None and not request.has_keys
        if is_foreign and is_halved:
            raise request.wrong(
                "access_key_id",
                "is missing: the worker's own keys are temporary and are not used at an endpoint of the request",
                hint="Give access_key_id and secret_access_key with the endpoint.",
            )
        return {name: SecretStr(value) for name, value in found.items() if value is not None}

    def _check_keys(self, location: StoreLocation) -> None:
        """Refuse what lacks keys, before anything runs: nothing is ever asked of a cloud's metadata service."""
        if location.kind is StoreKind.FILE:
            return
        wanted = ["secret_access_key"] if location.kind is StoreKind.GCS else ["access_key_id", "secret_access_key"]
        missing = [name for name in wanted if getattr(location, name) is None]
        if not missing:
            return
        side = self._request if self._request.fields else self._environment
        names = " and ".join(
            f"input.s3.{name}" if side.is_request else variable_name(name, is_r2=side.is_r2) for name in missing
        )
        verb = "is" if len(missing) == 1 else "are"
        message = f"{location.place} cannot be written: {names} {verb} missing"
        hint = f"Give {names}." if side.is_request else f"Set {names}."
        error = InvalidRequest if side.is_request else InvalidSettings
        raise error(message, hint=hint, problems=[Problem(message=message, path=names.replace("input.", ""))])

    def _connect_timeout_s(self) -> float:
        asked = self._options.connect_timeout_s
        if asked is None:
            return self._settings.connect_timeout_s
        if not asked > 0:
            raise self._request.wrong("connect_timeout_s", "must be more than 0")
        return min(asked, _MAX_CONNECT_TIMEOUT_S)

    def _attempts(self) -> int:
        asked = self._options.attempts
        if asked is None:
            return self._settings.attempts
        if asked < 1:
            raise self._request.wrong("attempts", "must be 1 or more")
        return min(asked, _MAX_ATTEMPTS)


def _kind_of(endpoint_url: str | None) -> StoreKind:
    if endpoint_url is None:
        return StoreKind.S3
    try:
        return parse_endpoint(endpoint_url).kind
    except ValueError:
        return StoreKind.S3


def _with_bucket(side: Side, endpoint: Endpoint, bucket: str | None) -> Endpoint:
    """Return the endpoint with the bucket that it names, or that was given beside it, or the usual one."""
    if bucket is not None and endpoint.bucket not in {None, bucket}:
        raise side.wrong(
            "bucket",
            f"is '{bucket}', but {'input.s3.endpoint_url' if side.is_request else 'the endpoint'} has the bucket "
            f"'{endpoint.bucket}' in its {endpoint.bucket_place}",
            hint="Leave one of them out.",
        )
    chosen = endpoint.bucket or bucket or DEFAULT_BUCKET
    _check_bucket(side, chosen)
    return replace(endpoint, bucket=chosen)


def _check_bucket(side: Side, bucket: str) -> None:
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise side.wrong("bucket", "is not the name of a bucket: letters, digits, dots and hyphens make one")
