"""Modifiers in the OpenAPI document."""

from typing import Any

from comfyworker.hosts.http.modifier_schemas import add_modifiers, modifier_schema
from comfyworker.jobs import RANDOM_INT
from comfyworker.workflow.modifiers import Modifier, Modifiers, Parameter

MODIFIER = Modifier(
    name="Poster",
    description="A poster.",
    parameters={
        "text": Parameter(type="string", required=True, description="What it says."),
        "steps": Parameter(type="integer", minimum=1, maximum=9, default=4),
        "style": Parameter(type="string", choices=("bold", "thin")),
    },
)


def test_a_modifier_is_described_with_its_bounds() -> None:
    """Each parameter has its type, bounds, choices and default; numbers may be drawn."""
    assert modifier_schema(MODIFIER)["properties"] == {
        "modifier": {"const": "Poster"},
        "modifications": {
            "type": ["object", "null"],
            "required": ["text"],
            "properties": {
                "text": {"type": "string", "description": "What it says."},
                "steps": {
                    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"const": RANDOM_INT}],
                    "default": 4,
                },
                "style": {"type": "string", "enum": ["bold", "thin"]},
            },
        },
    }


def test_every_input_refers_to_them() -> None:
    """Wherever a schema has `modifier` and `modifications`, it offers each modifier, and none."""
    document: dict[str, Any] = {
        "paths": {"/run": {"schema": {"properties": {"modifier": {}, "modifications": {}}}}, "/other": {}}
    }
    add_modifiers(document, Modifiers({"Poster": MODIFIER}))
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in ("Modifier_Poster", "NoModifier")]
    assert document["paths"]["/run"]["schema"]["anyOf"] == refs
    assert set(document["components"]["schemas"]) == {"Modifier_Poster", "NoModifier"}
