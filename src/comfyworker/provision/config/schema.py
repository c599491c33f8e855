"""The JSON Schema of config.yml, for editors; what the worker itself says of a mistake is clearer."""

from __future__ import annotations

from pydantic import JsonValue

SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, JsonValue]:
    """Return the schema: JSON Schema 2020-12, with a description of each key."""
    return {
        "$schema": SCHEMA_URL,
        "title": "comfyworker config.yml",
        "description": "Which models and custom nodes a ComfyUI has.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "models": _listed("Models, each a file below ComfyUI's models folder.", _model()),
            "nodes": _listed("Custom nodes.", {"anyOf": [_node(), _REGISTERED]}),
            "comfyui": {
                "description": "The ComfyUI that it is for.",
                "anyOf": [_COMFYUI, _mapping({"version": _COMFYUI}, needs=["version"]), {"type": "null"}],
            },
            "pip": _listed("Packages for ComfyUI's environment.", _no_option("A requirement, as `diffusers>=0.29`.")),
        },
    }


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in word)


_FILLED = r"\S"
_PATH = r"\.{0,2}/|~/"
_SCHEMES = "|".join(map(_any_case, ("https", "http", "s3", "r2", "file", "hf")))
_URL = rf"^\s*(?:(?:{_PATH})|(?:{_SCHEMES}):///*[^\s/]\S*\s*$)"
_REPOSITORY = r"^\s*(?:https?:///*[^\s/]|ssh://|git://|file://|git@|\.{0,2}/)\S*\s*$"
_FILENAME = r"^\s*(?!\.{1,2}\s*$)[^\s/\\\u0000-\u001f](?:[^/\\\u0000-\u001f]*[^\s/\\\u0000-\u001f])?\s*$"
_SHA256 = r"^\s*(?:sha256:)?[0-9a-fA-F]{64}\s*$"
_SIZE = r"^\s*(?=[0-9.]*[1-9])[0-9]+(?:\.[0-9]+)?\s*[kKmMgGtT]?i?[bB]?\s*$"
_NO_OPTION = r"^\s*[^-\s]"
_REGISTERED_NAME = r"^\s*[A-Za-z0-9][\w.-]*(?:@[\w.+-]+)?\s*$"


def _text(description: str, pattern: str = _FILLED, **more: JsonValue) -> dict[str, JsonValue]:
    return {"description": description, "type": "string", "pattern": pattern, **more}


def _or_null(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the schema of a value that may be left empty."""
    kinds = schema["type"]
    return {**schema, "type": [*kinds, "null"] if isinstance(kinds, list) else [kinds, "null"]}


def _no_option(description: str) -> dict[str, JsonValue]:
    # YAML reads 1.0 as a number.
    return _text(description, _NO_OPTION, minimum=0) | {"type": ["string", "number"]}


def _listed(description: str, items: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"description": description, "type": ["array", "null"], "items": items}


def _mapping(properties: dict[str, JsonValue], *, needs: list[JsonValue]) -> dict[str, JsonValue]:
    return {"type": "object", "additionalProperties": False, "required": needs, "properties": properties}


_COMFYUI = _text("Git tag, branch or commit, as v0.3.75.") | {"type": ["string", "number"]}
_REGISTERED = _text("A name of the Comfy Registry, as `comfyui-kjnodes@1.0.5`.", _REGISTERED_NAME)
_OPTIONAL: dict[str, JsonValue] = {
    "description": "Whether the worker may serve without it; it is tried again at the next start.",
    "type": ["boolean", "null"],
    "default": False,
}


def _model() -> dict[str, JsonValue]:
    return _mapping(
        {
            "url": _text(
                "Where it comes from: https, http, s3://bucket/key, r2://bucket/key, file://, or a path.", _URL
            ),
            "destination": _text(
                "Folder of ComfyUI's models, or one below it: checkpoints, loras, vae, diffusion_models, "
                "text_encoders, clip_vision, controlnet, upscale_models, embeddings, …"
            )
            | {"type": ["string", "number"]},
            "optional": _OPTIONAL,
            "filename": _or_null(
                _text("Its name there; without it, the name that its source gives it.", _FILENAME)
                | {"type": ["string", "number"]}
            ),
            "sha256": _or_null(_text("SHA-256 of the file.", _SHA256)),
            "size": {
                "description": "Bytes of the file, as a number or with a unit: 6938041050, 6.9 GB, 6.5 GiB.",
                "type": ["number", "string", "null"],
                "minimum": 1,
                "pattern": _SIZE,
            },
        },
        needs=["url", "destination"],
    )


def _node() -> dict[str, JsonValue]:
    is_given: dict[str, JsonValue] = {"not": {"type": "null"}}
    return {
        **_mapping(
            {
                "url": _or_null(_text("A git repository.", _REPOSITORY)),
                "name": _or_null(_text("A name of the Comfy Registry, as `comfyui-kjnodes`.", _REGISTERED_NAME)),
                "version": _or_null(
                    _no_option(
                        "`latest` (the newest release), `nightly` (the tip of the default branch), a tag, a commit or "
                        "a branch; of a name of the registry, a version."
                    )
                ),
                "optional": _OPTIONAL,
            },
            needs=[],
        ),
        "oneOf": [{"required": [key], "properties": {key: is_given}} for key in ("url", "name")],
    }
