"""Random integers: what stands for them in a workflow, and what is drawn in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import JsonValue

from comfyworker.jobs import RANDOM_INT, Graph
from comfyworker.workflow.graph import is_link
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.overrides import write_value

DRAWN_BELOW = 2**32
"""Drawn integers are smaller than this."""


def draw_placeholders(
    graph: Graph, classes: NodeClasses, draw: Callable[[], int]
) -> tuple[Graph, dict[str, JsonValue]]:
    """Return `graph` with an integer for each value that is exactly `__RANDOM_INT__`, and what they are.

    Each gets one of its own, kept within the bounds of its input where they are known. A graph without any is returned
    as it is.

    Args:
        graph: The workflow; it is left as it was.
        classes: What ComfyUI has.
        draw: Gives a random integer from 0 to 2³² - 1.

    Returns:
        The graph, and `{"<node>.<input>": integer}`; the path goes on where the value is inside of a list or object.
    """
    found = [(node_id, keys) for node_id, node in graph.items() for keys in _find(node["inputs"])]
    if not found:
        return graph, {}
    drawn, used = dict(graph), dict[str, JsonValue]()
    for node_id, keys in found:
        value = draw_for(graph, classes, node_id, keys[0], draw)
        drawn[node_id] = write_value(drawn[node_id], ["inputs", *keys], value)
        used[".".join([node_id, *keys])] = value
    return drawn, used


def draw_for(graph: Graph, classes: NodeClasses, node_id: str, name: str, draw: Callable[[], int]) -> int:
    """Return a random integer that the input takes."""
    node_class = classes.get(graph[node_id]["class_type"])
    spec = node_class.inputs.get(name) if node_class is not None else None
    low = spec.minimum if spec is not None else None
    high = spec.maximum if spec is not None else None
    return draw_within(low, high, draw)


def draw_within(low: float | None, high: float | None, draw: Callable[[], int]) -> int:
    """Return a random integer within bounds, and from 0 to 2³² - 1 as far as they allow it."""
    top = DRAWN_BELOW - 1 if high is None else int(min(high, DRAWN_BELOW - 1))
    bottom = 0 if low is None else int(max(low, 0))
    if top < 0:
        bottom = int(low) if low is not None else top
    elif bottom > DRAWN_BELOW - 1:
        top = int(high) if high is not None else bottom + DRAWN_BELOW - 1
    number = draw()
    return number if bottom <= number <= top else bottom + number % max(top - bottom + 1, 1)


def _find(inputs: dict[str, Any]) -> Iterator[list[str]]:  # Any: as in Graph
    """Yield the steps to each placeholder; without recursion, for a value may be nested as deep as its sender likes."""
    for name, value in inputs.items():
        if value == RANDOM_INT:
            yield [name]
        elif _holds_values(value):
            waiting: list[tuple[list[str], Any]] = [([name], value)]
            while waiting:
                keys, place = waiting.pop()
                items = place.items() if isinstance(place, dict) else enumerate(place)
                for key, below in items:
                    if below == RANDOM_INT:
                        yield [*keys, str(key)]
                    elif _holds_values(below):
                        waiting.append(([*keys, str(key)], below))


def _holds_values(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and not is_link(value))
