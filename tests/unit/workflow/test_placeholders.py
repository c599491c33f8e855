"""Random integers in a workflow."""

import copy
from itertools import count

import pytest

from comfyworker.jobs import Graph
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.placeholders import draw_placeholders, draw_within
from support.workflows import node

NO_CLASSES = NodeClasses({})
MARK = "__RANDOM_INT__"


def test_each_gets_one_of_its_own() -> None:
    """Placeholders anywhere in the inputs are drawn one by one and told by their places; links and other texts stay."""
    graph: Graph = {
        "1": node("X", seed=MARK, text=f"say {MARK}", deep={"list": [1, MARK, {"a": MARK}]}, link=[MARK, 0]),
        "2": node("X", MARK, seed=MARK),
    }
    kept, numbers = copy.deepcopy(graph), count(10)
    drawn, used = draw_placeholders(graph, NO_CLASSES, lambda: next(numbers))
    assert graph == kept
    assert used == {"1.seed": 10, "1.deep.list.1": 11, "1.deep.list.2.a": 12, "2.seed": 13}
    assert drawn["1"]["inputs"] == {
        "seed": 10,
        "text": f"say {MARK}",
        "deep": {"list": [1, 11, {"a": 12}]},
        "link": [MARK, 0],
    }
    assert drawn["2"] == node("X", MARK, seed=13)


def test_graph_without_any_is_not_copied(graph: Graph) -> None:
    """Most workflows have none; they cost a look."""
    assert draw_placeholders(graph, NO_CLASSES, lambda: 1)[0] is graph


def test_bounds_of_the_input_hold(graph: Graph, classes: NodeClasses) -> None:
    """What is drawn fits the input where its class is known."""
    graph["6"]["inputs"]["steps"] = MARK
    _, used = draw_placeholders(graph, classes, lambda: 2**32 - 1)
    assert used == {"6.steps": 1 + (2**32 - 1) % 10000}


@pytest.mark.parametrize(
    ("low", "high", "drawn", "expected"),
    [
        (None, None, 2**32 - 1, 2**32 - 1),
        (0, 2**64, 5, 5),
        (0, 3, 6, 2),
        (-10, 10, 15, 4),
        (-10, -5, 100, -6),
        (2**40, None, 1, 2**40 + 1),
        (7, 7, 0, 7),
    ],
)
def test_bounds(low: float | None, high: float | None, drawn: int, expected: int) -> None:
    """A number beyond the bounds is folded into them; negative ones are drawn only where nothing else fits."""
    assert draw_within(low, high, lambda: drawn) == expected


def test_deep_value() -> None:
    """Nesting that no recursion would survive is looked through."""
    value: object = MARK
    for _ in range(2000):
        value = [value, 1, 1]
    drawn, _ = draw_placeholders({"1": node("X", deep=value)}, NO_CLASSES, lambda: 4)
    found = drawn["1"]["inputs"]["deep"]
    while isinstance(found, list):
        found = found[0]
    assert found == 4
