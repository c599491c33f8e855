"""The settings of what leaves the worker: artifacts, object storage, webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from comfyworker.settings.groups import Group, env

CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl"""


class DeliverySettings(Group):
    """What becomes of a job's outputs."""

    keep_outputs: bool = Field(
        default=False,
        validation_alias=env("KEEP_OUTPUTS"),
        description="Leave outputs in ComfyUI's folders after delivery.",
    )
    keep_failed_outputs_s: float = Field(
        default=86400.0,
        ge=0,
        validation_alias=env("KEEP_FAILED_OUTPUTS_S"),
        description="Seconds that a file which could not be delivered is kept under `undelivered` in STATE_DIR; "
        "0 keeps none.",
    )
    fallback_inline: bool = Field(
        default=False,
        validation_alias=env("FALLBACK_INLINE"),
        description="Put a file into the answer as base64 where its upload failed, if it fits.",
    )
    answer_max_bytes: int | None = Field(
        default=None,
        gt=0,
        validation_alias=env("ANSWER_MAX_BYTES"),
        description="Largest answer in bytes, base64 included; without it, what the platform takes (RunPod: 10 MB), "
        "and on other hosts there is no limit.",
    )
    spool_dir: Path | None = Field(
        default=None,
        validation_alias=env("SPOOL_DIR"),
        description="Folder for outputs on their way: of a ComfyUI on another machine, and converted pictures; "
        "without it, the system's folder for temporary files.",
    )
    strip_metadata: bool = Field(
        default=False,
        validation_alias=env("STRIP_METADATA"),
        description="Take the workflow and all other metadata out of pictures, where the request does not say.",
    )
    format: Literal["png", "jpeg", "webp", "avif"] | None = Field(
        default=None,
        validation_alias=env("OUTPUT_FORMAT"),
        description="Format for still pictures where the request names none; without it they stay as they are.",
    )
    quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        validation_alias=env("OUTPUT_QUALITY"),
        description="Quality from 1 to 100 for jpeg, webp and avif where the request names none; without it, 85, 80 "
        "and 75. It counts only where pictures are made into such a format.",
    )

    @field_validator("format", mode="before")
    @classmethod
    def _known_spelling(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        spelled = value.lower().removeprefix(".")
        return "jpeg" if spelled == "jpg" else spelled


class StoreSettings(Group):
    """Object storage for outputs; an endpoint or a bucket turns it on."""

    endpoint_url: str | None = Field(
        default=None,
        validation_alias=env("BUCKET_ENDPOINT_URL", "S3_ENDPOINT_URL"),
        description="Endpoint of the object storage, with the bucket in its host or path or in BUCKET_NAME: "
        "`https://…` for S3 and all that speaks it and for Azure's blobs, or `s3://bucket`, `gs://bucket`, "
        "`az://container`, `file:///folder`.",
    )
    bucket: str | None = Field(
        default=None,
        validation_alias=env("BUCKET_NAME", "S3_BUCKET_NAME"),
        description="Bucket, where the endpoint does not hold it; `comfyui-outputs` if neither does.",
    )
    access_key_id: SecretStr | None = Field(
        default=None,
        validation_alias=env("BUCKET_ACCESS_KEY_ID", "S3_ACCESS_KEY_ID"),
        description="Access key of S3; for Azure, the name of the storage account.",
    )
    secret_access_key: SecretStr | None = Field(
        default=None,
        validation_alias=env("BUCKET_SECRET_ACCESS_KEY", "S3_SECRET_ACCESS_KEY"),
        description="Secret key of S3; for Azure, the account's key; for Google, the service account's JSON.",
    )
    session_token: SecretStr | None = Field(
        default=None,
        validation_alias=env("BUCKET_SESSION_TOKEN", "S3_SESSION_TOKEN"),
        description="Token that belongs to temporary keys of S3.",
    )
    region: str | None = Field(
        default=None,
        validation_alias=env("BUCKET_REGION", "S3_REGION"),
        description="Region; without it, the one in the endpoint's host, else `auto` for R2 and `us-east-1`.",
    )
    addressing: Literal["auto", "path", "host"] = Field(
        default="auto",
        validation_alias=env("BUCKET_ADDRESSING"),
        description="Where S3's URLs have the bucket; `auto` is where the endpoint has it, else the path.",
    )
    key_template: str = Field(
        default="{request_id}/{filename}",
        validation_alias=env("BUCKET_KEY_TEMPLATE"),
        description="Key of each object, of {request_id}, {filename}, {stem}, {extension}, {node_id}, {date} "
        "(YYYY-MM-DD, UTC), {year}, {month}, {day} and {index}; equal keys of one job are numbered.",
    )
    prefix: str = Field(
        default="",
        validation_alias=env("BUCKET_PREFIX"),
        description="What every object's key begins with, as `outputs/`; a prefix in the request wins.",
    )
    url_expires_s: int = Field(
        default=604800,
        ge=1,
        validation_alias=env("BUCKET_URL_EXPIRES_S"),
        description="Seconds that the URLs in answers work; S3 takes at most 604800, which is 7 days.",
    )
    public_url: str | None = Field(
        default=None,
        validation_alias=env("BUCKET_PUBLIC_URL"),
        description="Base URL under which the bucket can be read by anybody; answers then have this and the key "
        "instead of a presigned URL.",
    )
    acl: str | None = Field(
        default=None,
        validation_alias=env("BUCKET_ACL"),
        description=f"Canned ACL of each object on S3: {', '.join(CANNED_ACLS)}; without it, the bucket's own.",
    )
    part_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=5 * 1024 * 1024,
        le=1024 * 1024 * 1024,
        validation_alias=env("BUCKET_PART_BYTES"),
        description="Bytes of one part of an upload; files up to this size go in one piece.",
    )
    parallel: int = Field(
        default=3,
        ge=1,
        le=64,
        validation_alias=env("BUCKET_PARALLEL"),
        description="How many parts are on their way at the same time, of all files of one job together; memory "
        "holds each.",
    )
    attempts: int = Field(
        default=6,
        ge=1,
        validation_alias=env("BUCKET_ATTEMPTS"),
        description="How often one part is sent at most while the storage fails (5xx, 429, broken connections).",
    )
    retry_within_s: float = Field(
        default=120.0,
        gt=0,
        validation_alias=env("BUCKET_RETRY_WITHIN_S"),
        description="Seconds after which a part that failed is not sent again.",
    )
    connect_timeout_s: float = Field(
        default=10.0,
        gt=0,
        validation_alias=env("BUCKET_CONNECT_TIMEOUT_S"),
        description="Seconds within which a connection to the storage must stand.",
    )
    request_timeout_s: float = Field(
        default=300.0,
        gt=0,
        validation_alias=env("BUCKET_REQUEST_TIMEOUT_S"),
        description="Seconds within which the storage must have taken one part.",
    )
    r2_endpoint_url: str | None = Field(
        default=None,
        validation_alias=env("R2_ENDPOINT", "R2_ENDPOINT_URL"),
        description="Endpoint of Cloudflare R2. Outputs go there where R2_BUCKET_NAME is set and neither BUCKET_… nor "
        "S3_… names another place.",
    )
    r2_bucket: str | None = Field(
        default=None,
        validation_alias=env("R2_BUCKET_NAME", "R2_BUCKET"),
        description="Bucket for outputs on R2; R2_ENDPOINT alone is where models are kept.",
    )
    r2_access_key_id: SecretStr | None = Field(
        default=None,
        validation_alias=env("R2_ACCESS_KEY_ID"),
        description="Access key of R2.",
    )
    r2_secret_access_key: SecretStr | None = Field(
        default=None,
        validation_alias=env("R2_SECRET_ACCESS_KEY"),
        description="Secret key of R2.",
    )

    @field_validator("acl")
    @classmethod
    def _known_acl(cls, value: str | None) -> str | None:
        if value is not None and value not in CANNED_ACLS:
            message = f"must be one of {', '.join(CANNED_ACLS)}"
            raise ValueError(message)
        return value


class WebhookSettings(Group):
    """Who is told of jobs, and how."""

    url: str | None = Field(
        default=None,
        validation_alias=env("WEBHOOK_URL"),
        description="URL that is told of every job's end, where the request names no webhook of its own.",
    )
    secret: SecretStr | None = Field(
        default=None,
        validation_alias=env("WEBHOOK_SECRET"),
        description="Secret that signs webhooks (Standard Webhooks: `whsec_` and base64), where the request brings "
        "none.",
    )
    timeout_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=env("WEBHOOK_TIMEOUT_S", "WEBHOOK_TIMEOUT"),
        description="Seconds that one attempt to deliver a webhook may take.",
    )
    retry_within_s: float = Field(
        default=3600.0,
        ge=0,
        validation_alias=env("WEBHOOK_RETRY_WITHIN_S"),
        description="Seconds after which a webhook that nobody takes is given up.",
    )
    max_body_bytes: int = Field(
        default=10_000_000,
        gt=0,
        validation_alias=env("WEBHOOK_MAX_BYTES"),
        description="Largest body of a webhook; base64 that does not fit is left out of it, and said to be.",
    )


class StateSettings(Group):
    """What the worker keeps from one start to the next."""

    folder: Path | None = Field(
        default=None,
        validation_alias=env("STATE_DIR"),
        description="Folder for what must outlive the worker: the server's jobs and assets, webhooks on their way, "
        "files that could not be delivered; without it, `comfyworker` in XDG_STATE_HOME or in ~/.local/state.",
    )
    xdg_state_home: Path | None = Field(
        default=None,
        validation_alias=env("XDG_STATE_HOME"),
        description="Where programs of this user keep their state; used where STATE_DIR is not set.",
    )

    @property
    def path(self) -> Path:
        """The folder that is meant; it need not exist yet."""
        base = self.xdg_state_home or Path("~/.local/state").expanduser()
        return self.folder or base / "comfyworker"
