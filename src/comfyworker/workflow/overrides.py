"""Values that a caller wants in a workflow's nodes instead of those that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import JsonValue

from comfyworker.errors import InvalidRequest, InvalidWorkflow, Problem
from comfyworker.jobs import RANDOM_INT, Graph, Override
from comfyworker.wording import LISTED_CHOICES, clip, listing, nearest, quote, received, summary
from comfyworker.workflow.graph import is_link, title_of
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.preflight import check_input

_NODE_ID = re.compile(r"\d+(:\d+)*")
"""Node ids as ComfyUI's page writes them; `12:3` is a node in a subgraph."""
_ASSIGNMENT = re.compile(r"(?:\"(?P<quoted>[^\"]+)\"|(?P<node>[^.=]+))\.(?P<field>[^=]+)=(?P<value>.*)", re.DOTALL)


class _Unfit(Exception):
    """An override that cannot be applied: what is wrong with which part of it."""

    def __init__(self, part: str, what: str, code: str, choices: Sequence[str] = (), word: str = "") -> None:
        super().__init__(what)
        self.part = part
        self.what = what
        self.code = code
        self.near = nearest(word, choices)


def parse_assignment(text: str) -> Override:
    """Return the override that `NODE.FIELD=VALUE` means, as in `6.text=a cat` or `"Main v1.5".steps=20`.

    NODE is an id or a title, in double quotes if it has a dot. VALUE is JSON if it can be read as such, else text.

    Raises:
        InvalidRequest: `text` is not of that form.
    """
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"{quote(text)} is no assignment",
            hint="Write NODE.FIELD=VALUE, as in 6.text=a cat or 3.seed=5; NODE is a node's id or its title.",
        )
    node = match["quoted"] or match["node"].strip()
    value = _json_or_text(match["value"])
    if match["quoted"] is None and _NODE_ID.fullmatch(node):
        return Override(node_id=node, field=match["field"].strip(), value=value)
    return Override(title=node, field=match["field"].strip(), value=value)


def apply_overrides(
    graph: Graph,
    overrides: Sequence[Override],
    classes: NodeClasses | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Graph:
    """Return a copy of `graph` with each override written into its node's inputs.

    A node is named by id or by title (`_meta.title`). A link in the field is replaced by the value, and objects on the
    way that are not there are made. `graph` is left as it was, so one parsed workflow can serve many jobs.

    Args:
        graph: The workflow.
        overrides: What to write, in this order.
        classes: What ComfyUI has. With it, an input that neither the node nor its class has is a problem; without it,
            such an input is added, for the node may leave out what its class can do without. Values that ComfyUI would
            surely refuse are problems, too.
        labels: What each override is called in messages; None calls it by its place, as `overrides[2].field`.

    Raises:
        InvalidWorkflow: with *all* overrides that name no node, several nodes, or no such input, or whose value does
            not fit; each has its path (`overrides[2].field`) and the nearest name that exists.
    """
    changed = dict(graph)
    problems: list[Problem] = []
    written: dict[tuple[str, str], int] = {}
    for index, override in enumerate(overrides):
        try:
            node_id = _find_node(graph, override)
            keys = _keys(changed[node_id], override.field)
            _check_name(changed[node_id], keys, classes)
            changed[node_id] = write_value(changed[node_id], keys, override.value)
            if keys[0] == "inputs":
                written[node_id, keys[1]] = index
        except _Unfit as error:
            place = labels[index] if labels else f"overrides[{index}].{error.part}"
            problems.append(_problem(place, override, error))
    for (node_id, name), index in written.items():
        problem = refused_value(changed, classes, node_id, name)
        if problem is not None:
            place = labels[index] if labels else f"overrides[{index}].value"
            problems.append(placed_at(place, problem))
    if problems:
        hint = "Name a node, by id or title, and an input that the workflow has."
        raise InvalidWorkflow(summary(problems), hint=hint, problems=problems)
    return changed


def refused_value(graph: Graph, classes: NodeClasses | None, node_id: str, name: str) -> Problem | None:
    """Return why ComfyUI would refuse a value that was set; None if it takes it, or if one will be drawn there."""
    if classes is None or graph[node_id]["inputs"].get(name) == RANDOM_INT:
        return None
    return check_input(graph, classes, node_id, name)


def placed_at(place: str, problem: Problem) -> Problem:
    """Return a problem of the workflow as one of the request's part that caused it."""
    return problem.model_copy(update={"message": f"{place}: {problem.message}", "path": place})


def _problem(place: str, override: Override, error: _Unfit) -> Problem:
    near = error.near
    what = f"{place}: {error.what}"
    if near.suggestion:
        what += f"; did you mean {quote(near.suggestion)}?"
    elif near.listed:
        what += f"; there are: {listing(near.listed, len(near.listed))}"
    return Problem(
        message=what,
        code=error.code,
        path=place,
        node_id=override.node_id,
        received=received(getattr(override, error.part)),
        choices=near.listed,
        suggestion=near.suggestion,
    )


def _find_node(graph: Graph, override: Override) -> str:
    if (override.node_id is None) == (override.title is None):
        raise _Unfit("node_id", "give either node_id or title", "invalid_override")
    if override.node_id is not None:
        if override.node_id in graph:
            return override.node_id
        what = f"the workflow has no node {quote(override.node_id)}"
        raise _Unfit("node_id", what, "unknown_node", tuple(graph), override.node_id)
    title = override.title or ""
    bearers = [node_id for node_id in graph if title_of(graph, node_id) == title]
    if not bearers and title in graph:
        return title
    if len(bearers) == 1:
        return bearers[0]
    if bearers:
        what = f"{len(bearers)} nodes have the title {quote(title)}; name one of them by node_id"
        raise _Unfit("title", what, "ambiguous_title", bearers[:LISTED_CHOICES])
    titles = tuple(found for node_id in graph if (found := title_of(graph, node_id)))
    raise _Unfit("title", f"no node has the title {quote(title)}", "unknown_node", titles, title)


def _keys(node: dict[str, Any], field: str) -> list[str]:  # Any: as in Graph
    """Return the steps from the node to the field."""
    bare = field.removeprefix("inputs.")
    if bare in node["inputs"]:
        # Inputs that grow have dots in their names: `images.image0`.
        return ["inputs", bare]
    keys = field.split(".")
    if "" in keys or keys == ["inputs"]:
        what = f"{quote(field)} is no path to an input"
        raise _Unfit("field", what, "unknown_input", tuple(node["inputs"]), field)
    return keys if keys[0] in {"inputs", "_meta"} else ["inputs", *keys]


def _check_name(node: dict[str, Any], keys: list[str], classes: NodeClasses | None) -> None:  # Any: as in Graph
    """Refuse an input that neither the node nor its class has, where the class is known."""
    node_class = classes.get(node["class_type"]) if classes is not None else None
    if keys[0] != "inputs" or node_class is None or keys[1] in node["inputs"] or keys[1] in node_class.inputs:
        return
    if any(spec.grows for spec in node_class.inputs.values()):
        return
    what = f"{clip(node['class_type'])} has no input {quote(keys[1])}"
    raise _Unfit("field", what, "unknown_input", tuple(node_class.inputs), keys[1])


def write_value(node: dict[str, Any], keys: list[str], value: JsonValue) -> dict[str, Any]:  # Any: as in Graph
    """Return the node with `value` at the end of the steps; everything on the way is a copy."""
    changed = dict(node)
    place: dict[str, Any] | list[Any] = changed
    for depth, key in enumerate(keys[:-1]):
        below = _step(place, key, keys[:depth])
        # A link is a list, but nothing may be written into one.
        if is_link(below) or not isinstance(below, dict | list):
            _stop(below, keys[: depth + 1])
        below = dict(below) if isinstance(below, dict) else list(below)
        _put(place, key, below, keys[:depth])
        place = below
    _put(place, keys[-1], value, keys[:-1])
    return changed


def _step(place: dict[str, Any] | list[Any], key: str, way: list[str]) -> object:
    return place.get(key, {}) if isinstance(place, dict) else place[_index(place, key, way)]


def _put(place: dict[str, Any] | list[Any], key: str, value: object, way: list[str]) -> None:
    if isinstance(place, dict):
        place[key] = value
    else:
        place[_index(place, key, way)] = value


def _index(place: list[Any], key: str, way: list[str]) -> int:
    if key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(place):
        return int(key)
    what = f"{clip('.'.join(way))} is a list of {len(place)}, which has no {quote(key)}"
    raise _Unfit("field", what, "unknown_input")


def _stop(value: object, way: list[str]) -> NoReturn:
    kind = f"a link to node {quote(value[0])}" if is_link(value) else quote(value)
    raise _Unfit("field", f"{clip('.'.join(way))} is {kind}, so there is nothing below it", "unknown_input")


def _json_or_text(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return value


def _refuse_constant(name: str) -> NoReturn:
    # NaN and Infinity are no JSON; whoever types them means the words.
    raise ValueError(name)
