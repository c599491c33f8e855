"""The modifiers in the OpenAPI document: each with a schema of its own, wherever a job's `input` is described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfyworker.jobs import RANDOM_INT
from comfyworker.workflow.modifiers import Modifier, Modifiers, Parameter

Schema = dict[str, Any]  # Any: JSON Schema
_NO_MODIFIER = "NoModifier"


def add_modifiers(document: Schema, modifiers: Modifiers) -> None:
    """Write the modifiers into an OpenAPI document; every schema with `modifier` and `modifications` refers to them."""
    if not modifiers.known:
        return
    shown = {f"Modifier_{name}": modifier_schema(modifier) for name, modifier in modifiers.known.items()}
    without: Schema = {"description": "A job without a modifier.", "properties": {"modifier": {"enum": [None]}}}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    choices = [{"$ref": f"#/components/schemas/{name}"} for name in (*shown, _NO_MODIFIER)]
    _refer(document, choices)
    schemas.update(shown, **{_NO_MODIFIER: without})


def modifier_schema(modifier: Modifier) -> Schema:
    """Return the schema of an `input` that uses this modifier."""
    modifications: Schema = {
        "type": ["object", "null"],
        "properties": {name: _parameter_schema(parameter) for name, parameter in modifier.parameters.items()},
    }
    required = [name for name, parameter in modifier.parameters.items() if parameter.required]
    if required:
        modifications["required"] = required
    return {
        "type": "object",
        "description": modifier.description,
        "required": ["modifier"],
        "properties": {"modifier": {"const": modifier.name}, "modifications": modifications},
    }


def _parameter_schema(parameter: Parameter) -> Schema:
    given: Mapping[str, object] = {
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "enum": list(parameter.choices) if parameter.choices is not None else None,
    }
    schema: Schema = {"type": parameter.type, **{name: value for name, value in given.items() if value is not None}}
    if parameter.type in {"integer", "number"}:
        schema = {"anyOf": [schema, {"const": RANDOM_INT}]}
    if parameter.description:
        schema["description"] = parameter.description
    return schema if parameter.default is None else {**schema, "default": parameter.default}


def _refer(part: object, choices: list[Schema]) -> None:
    if isinstance(part, list):
        for item in part:
            _refer(item, choices)
    elif isinstance(part, dict):
        properties = part.get("properties")
        if isinstance(properties, dict) and {"modifier", "modifications"} <= properties.keys():
            part["anyOf"] = choices
        for item in part.values():
            if item is not choices:
                _refer(item, choices)
