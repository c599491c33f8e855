"""One place where outputs go."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from comfyworker.delivery.store._sides import variable_name, wire_name
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.workflow.urls import shown_url

DEFAULT_REGION = "us-east-1"


class StoreLocation(BaseModel):
    """One place in one storage, with all that it takes to write there."""

    model_config = ConfigDict(frozen=True)

    kind: StoreKind
    endpoint: str = ""
    """Scheme, host and port, without the bucket; empty where the storage needs none. Of a folder: nothing."""
    bucket: str = ""
    folder: Path | None = None
    """Where outputs go, if that is a folder of this machine."""
    addressing: Literal["path", "host"] = "path"
    """Where S3's URLs have the bucket."""
    region: str = DEFAULT_REGION
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    prefix: str = ""
    """What the endpoint itself names below the bucket."""
    connect_timeout_s: float = 10.0
    attempts: int = 6
    is_foreign: bool = False
    """Whether the request brought the endpoint, and it is not the worker's own."""
    from_request: frozenset[str] = frozenset()
    """Which of `StoreOptions`' fields the request brought."""
    is_r2_group: bool = False
    """Whether what the request did not bring came from R2_…, not from BUCKET_…."""
    public_url: str | None = None
    """Where anybody can read the bucket; only of the worker's own bucket."""
    acl: str | None = None
    """The canned ACL of each object; only in the worker's own bucket."""

    @property
    def base_url(self) -> str:
        """The URL of the bucket on S3."""
        if self.addressing == "path":
            return f"{self.endpoint}/{self.bucket}"
        scheme, _, rest = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{rest}"

    @property
    def is_anonymous(self) -> bool:
        """Whether there are no keys, so that what anybody may read can be read."""
        return self.kind is StoreKind.S3 and self.access_key_id is None and self.secret_access_key is None

    @property
    def place(self) -> str:
        """Where this is, for people: nothing of it is secret."""
        if self.kind is StoreKind.FILE:
            return f"the folder '{self.folder.name if self.folder else ''}'"
        noun = "container" if self.kind is StoreKind.AZURE else "bucket"
        where = shown_url(self.endpoint).removesuffix("/…") if self.endpoint else ""
        at = {StoreKind.GCS: "Google Cloud Storage", StoreKind.AZURE: "Azure"}.get(self.kind, where)
        return f"{noun} '{self.bucket}' at {at}"

    def name_of(self, field: str) -> str:
        """Return by which name people can set a field of `StoreOptions`: the request's, or a variable's."""
        if field in self.from_request or self.is_foreign:
            return f"input.s3.{wire_name(field)}"
        return variable_name(field, is_r2=self.is_r2_group)
