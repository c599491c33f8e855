"""Modifier files, read from the package and from the owner's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from comfyworker.errors import InvalidSettings
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import ModifierSettings
from support.workflows import noise

COMMON = (
    "prompt",
    "negative_prompt",
    "width",
    "height",
    "steps",
    "seed",
    "cfg",
    "sampler_name",
    "scheduler",
    "denoise",
    "ckpt_name",
    "batch_size",
)


def write(path: Path, **data: Any) -> None:
    """Write a modifier file."""
    path.write_text(json.dumps(data))


def test_built_in() -> None:
    """The modifiers that clients know come with the worker, with the parameters that they send."""
    known = load_modifiers(ModifierSettings()).known
    assert {name: tuple(modifier.parameters) for name, modifier in known.items()} == {
        "Image2Image": ("input_image", *COMMON),
        "RawWorkflow": ("prompt", "width", "height", "steps", "seed"),
        "Text2Image": COMMON,
    }


def test_folder_adds_and_replaces(tmp_path: Path) -> None:
    """Files that are no JSON by their names are left alone."""
    write(tmp_path / "mine.json", name="Mine")
    write(tmp_path / "other.json", name="Text2Image", description="mine")
    (tmp_path / "README.md").write_text("x")
    known = load_modifiers(ModifierSettings(folder=tmp_path)).known
    assert sorted(known) == ["Image2Image", "Mine", "RawWorkflow", "Text2Image"]
    assert known["Text2Image"].description == "mine"


def test_default_workflow(tmp_path: Path) -> None:
    """DEFAULT_WORKFLOW is read once, with the modifiers."""
    graph = noise()
    path = tmp_path / "default.json"
    path.write_text(json.dumps(graph))
    assert load_modifiers(ModifierSettings(default_workflow=path)).default_workflow == graph


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Every file with a mistake is named; none of them is taken."""
    write(tmp_path / "a.json", name="A", parameters={"x": {"type": "int"}})
    (tmp_path / "b.json").write_text("{")
    write(tmp_path / "c.json", name="C")
    write(tmp_path / "d.json", name="C")
    settings = ModifierSettings(folder=tmp_path, default_workflow=tmp_path / "none.json")
    with pytest.raises(InvalidSettings) as caught:
        load_modifiers(settings)
    assert [problem.message for problem in caught.value.problems] == [
        "a.json.parameters.x.type: Input should be 'string', 'integer', 'number' or 'boolean'",
        "b.json is not JSON: unexpected end of data: line 1 column 2 (char 1)",
        "d.json: another file there describes the modifier 'C', too",
        "DEFAULT_WORKFLOW: no such file or directory",
    ]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is told by the setting's name, without the path."""
    with pytest.raises(InvalidSettings, match=r"^MODIFIERS_DIR: no such file or directory$"):
        load_modifiers(ModifierSettings(folder=tmp_path / "none"))
