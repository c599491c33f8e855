"""Which value belongs to which widget."""

from typing import Any

import pytest

from comfyworker.workflow import NodeClasses
from comfyworker.workflow.gui import convert_gui
from support.gui_workflows import node, workflow


def values(classes: NodeClasses, kind: str, held: Any, **parts: Any) -> dict[str, Any]:
    """Return the inputs of one node that held these values."""
    inputs: dict[str, Any] = convert_gui(workflow(node(1, kind, widgets_values=held, **parts)), classes)["1"]["inputs"]
    return inputs


@pytest.mark.parametrize(
    "held",
    [
        [7, "randomize", 30, "heun"],
        [7, True, 30, "heun"],
        [7, 30, "heun"],
    ],
    ids=["words", "true", "none"],
)
def test_a_seeds_control_is_passed_over_if_it_is_there(held: list[Any], classes: NodeClasses) -> None:
    """Files of all times: with the control in words, as true or false, and without it."""
    assert values(classes, "Sampler", held) == {"seed": 7, "steps": 30, "sampler": "heun"}


def test_a_control_that_the_class_no_longer_has_is_passed_over(classes: NodeClasses) -> None:
    """A control is never the value of a number."""
    assert values(classes, "Latent", [512, "randomize", 768]) == {"width": 512, "height": 768}


@pytest.mark.parametrize("held", [[], None, [None, None, None, None]])
def test_values_that_are_not_there_are_the_defaults(held: list[Any] | None, classes: NodeClasses) -> None:
    """As in a new node: the declared default, else the first choice, else nothing that weighs."""
    assert values(classes, "Sampler", held) == {"seed": 0, "steps": 20, "sampler": "euler"}


def test_an_upload_button_stands_behind_all_widgets(classes: NodeClasses) -> None:
    """Its value is saved and never sent."""
    assert values(classes, "Load", ["x.png", "alpha", "image"]) == {"image": "x.png", "channel": "alpha"}


def test_a_forced_input_has_no_widget(classes: NodeClasses) -> None:
    """Nothing of the values is its."""
    assert values(classes, "Forced", [9]) == {"size": 9}


def test_a_widget_that_became_an_input_kept_its_place(classes: NodeClasses) -> None:
    """A file from before the change holds one value more, and that is told by their number."""
    assert values(classes, "Forced", ["old text", 9]) == {"size": 9}


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (["by size", 4, 5, "area"], {"how": "by size", "how.width": 4, "how.height": 5, "method": "area"}),
        (["by factor", 0.5, "area"], {"how": "by factor", "how.factor": 0.5, "method": "area"}),
    ],
)
def test_a_dynamic_combo_brings_its_choices_widgets(
    held: list[Any], wanted: dict[str, Any], classes: NodeClasses
) -> None:
    """They stand right behind it and bear its name before their own."""
    assert values(classes, "Resize", held) == wanted


def test_values_may_be_saved_by_name(classes: NodeClasses) -> None:
    """Some custom nodes do so; what is not declared is sent too, objects excepted."""
    held = {"width": 1, "height": 2, "crf": 19, "preview": {"paused": False}}
    assert values(classes, "Latent", held) == {"width": 1, "height": 2, "crf": 19}


def test_a_custom_nodes_own_widget_is_told_by_the_file(classes: NodeClasses) -> None:
    """A type that only its own script knows has a widget if the saved input stands beside one."""
    slots = [{"name": "points", "type": "LIST", "link": None, "widget": {"name": "points"}}]
    assert values(classes, "Forced", [9, "1,2"], inputs=slots) == {"size": 9, "points": "1,2"}
