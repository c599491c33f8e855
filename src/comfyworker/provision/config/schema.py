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
                "anyOf": [
                    _text("Git tag, branch or commit, as v0.3.75."),
                    _mapping({"version": _text("Git tag, branch or commit, as v0.3.75.")}, needs=["version"]),
                ],
            },
            "pip": _listed("Packages for ComfyUI's environment.", _text("A requirement, as `diffusers>=0.29`.")),
        },
    }


def _text(description: str, **more: JsonValue) -> dict[str, JsonValue]:
    return {"description": description, "type": "string", "minLength": 1, **more}


def _version(description: str) -> dict[str, JsonValue]:
    # YAML reads 1.0 as a number.
    return {"description": description, "type": ["string", "number"]}


def _listed(description: str, items: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"description": description, "type": ["array", "null"], "items": items}


def _mapping(properties: dict[str, JsonValue], *, needs: list[JsonValue]) -> dict[str, JsonValue]:
    return {"type": "object", "additionalProperties": False, "required": needs, "properties": properties}


_REGISTERED = _text("A name of the Comfy Registry, as `comfyui-kjnodes@1.0.5`.")
_OPTIONAL: dict[str, JsonValue] = {
    "description": "Whether the worker may serve without it; it is tried again at the next start.",
    "type": "boolean",
    "default": False,
}


def _model() -> dict[str, JsonValue]:
    return _mapping(
        {
            "url": _text("Where it comes from: https, http, s3://bucket/key, r2://bucket/key, file://, or a path."),
            "destination": _text(
                "Folder of ComfyUI's models, or one below it: checkpoints, loras, vae, diffusion_models, "
                "text_encoders, clip_vision, controlnet, upscale_models, embeddings, …"
            ),
            "optional": _OPTIONAL,
            "filename": _text("Its name there; without it, the name that its source gives it."),
            "sha256": _text("SHA-256 of the file.", pattern="^(sha256:)?[0-9a-fA-F]{64}$"),
            "size": {
                "description": "Bytes of the file, as a number or with a unit: 6938041050, 6.9 GB, 6.5 GiB.",
                "type": ["integer", "string"],
            },
        },
        needs=["url", "destination"],
    )


def _node() -> dict[str, JsonValue]:
    return {
        **_mapping(
            {
                "url": _text("A git repository."),
                "name": _text("A name of the Comfy Registry, as `comfyui-kjnodes`."),
                "version": _version(
                    "`latest` (the newest release), `nightly` (the tip of the default branch), a tag, a commit or a "
                    "branch; of a name of the registry, a version."
                ),
                "optional": _OPTIONAL,
            },
            needs=[],
        ),
        "oneOf": [{"required": ["url"]}, {"required": ["name"]}],
    }
