"""What requests look like, for the OpenAPI document: reading them is the dialects' work."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from comfyworker.dialects import DIALECT_NAMES
from comfyworker.jobs import RANDOM_INT, DeliveryMode, PictureFormat, WebhookEvent

MOST_SECONDS = 1_000_000_000
"""What the dialects take."""

JsonSchema = dict[str, Any]  # Any: JSON Schema

_WORKFLOW_EXAMPLE = {"3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["4", 0]}}}


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class ImageFile(_Document):
    """A file that the workflow loads by its name."""

    name: str = Field(examples=["input.png"])
    image: str = Field(description="Its bytes as base64 or as a data URI, or an http(s) URL.")


class OverrideValue(_Document):
    """One value for one field of one node."""

    node_id: str | int | None = Field(None, description="The node; or give `title`.")
    title: str | None = Field(None, description="The node's title, as ComfyUI's page shows it.")
    field: str = Field(description="A dot path into the node, as `inputs.text`; `text` is short for that.")
    value: JsonValue


class OutputWishes(_Document):
    """How the artifacts are wanted."""

    delivery: DeliveryMode | None = Field(
        None, description="`auto` is object storage where there is any, else what the answer's shape is used to."
    )
    format: PictureFormat | None = Field(None, description="Make still pictures into this format.")
    quality: int | None = Field(None, ge=1, le=100)
    strip_metadata: bool | None = Field(None, description="Take the workflow and all other metadata out of pictures.")
    prefix: str | None = Field(None, max_length=512, description="What every object's key begins with.")


class ObjectStorage(_Document):
    """Object storage of the request's own; what is left out is the worker's."""

    endpoint_url: str | None = None
    bucket_name: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str | None = None


class WebhookWishes(_Document):
    """Who wants to hear of the job."""

    url: str | None = None
    extra_params: dict[str, JsonValue] | None = Field(None, description="Sent back with every event.")
    secret: str | None = Field(None, description="Signs every event; `whsec_` and base64, or plain text.")
    events: list[WebhookEvent] | None = None
    timeout: float | None = Field(None, gt=0, le=MOST_SECONDS, description="Seconds that one attempt may take.")


class ModelFile(_Document):
    """Where a model is that the workflow names; fetched if it is missing and the server does that."""

    url: str = Field(description="https, or hf://owner/name/path.")
    destination: str | None = Field(None, description="Folder of ComfyUI's models, as `loras/wan`.")
    folder: str | None = Field(None, description="The same as `destination`.")
    filename: str | None = Field(None, description="Its name there; without it, the last part of the URL.")
    sha256: str | None = Field(None, description="What its content must have.")
    size: int | None = Field(None, gt=0, description="How many bytes it must have.")


class JobInput(_Document):
    """What is to run; one of `workflow`, `workflow_json`, or `modifier` with `modifications`."""

    workflow: dict[str, JsonValue] | None = Field(
        None, description="In ComfyUI's API format, or as its page saves it.", examples=[_WORKFLOW_EXAMPLE]
    )
    workflow_json: dict[str, JsonValue] | None = Field(None, description="The same as `workflow`.")
    modifier: str | None = Field(None, description="A workflow that the server knows.", examples=["Text2Image"])
    modifications: dict[str, JsonValue] | None = Field(None, description="The modifier's parameters, by name.")
    images: list[ImageFile] | None = None
    models: list[ModelFile] | None = None
    overrides: list[OverrideValue] | None = None
    prompt: str | None = None
    prompt_node_id: str | int | None = None
    seed: int | Literal["__RANDOM_INT__"] | None = Field(None, description=f"-1 or {RANDOM_INT!r} draws one.")
    seed_node_id: str | int | None = None
    width: int | None = None
    height: int | None = None
    size_node_id: str | int | None = None
    steps: int | None = None
    request_id: str | None = Field(
        None,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127})?$",
        description="The job's id; sent a second time with the same request, it leads to the first job.",
    )
    timeout: float | None = Field(None, gt=0, le=MOST_SECONDS, description="Seconds that the job may run.")
    response_format: str | None = Field(
        None,
        description="In which shape the output is given; RESPONSE_FORMAT says the usual one.",
        json_schema_extra={"enum": [*DIALECT_NAMES, "", None]},
    )
    comfy_org_api_key: str | None = Field(None, description="For ComfyUI's API nodes.")
    return_outputs_as_base64: bool | None = None
    output: OutputWishes | None = None
    s3: ObjectStorage | None = None
    webhook: WebhookWishes | None = None


def request_body(model: type[BaseModel]) -> JsonSchema:
    """Return a route's `openapi_extra` for a body of this shape."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(model)}}}}


def schema_of(model: type[BaseModel]) -> JsonSchema:
    """Return a model's JSON Schema with all others that it names written out in it."""
    schema = model.model_json_schema()
    return _resolve(schema, schema.pop("$defs", {}))


def _resolve(schema: JsonSchema, named: JsonSchema) -> JsonSchema:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {**_resolve(named[reference.rpartition("/")[2]], named), **beside}
    return {key: _resolve_part(value, named) for key, value in schema.items()}


def _resolve_part(part: object, named: JsonSchema) -> object:
    if isinstance(part, list):
        return [_resolve_part(item, named) for item in part]
    return _resolve(part, named) if isinstance(part, dict) else part
