"""A workflow in API format: read it from whatever a caller sent, then walk its nodes and links."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from comfyworker.errors import InvalidWorkflow, Problem, WorkflowFormatUI
from comfyworker.jobs import Graph
from comfyworker.wording import clip, quote, received, summary

Node = Mapping[str, Any]  # Any: as in Graph

_MOST_LEVELS = 100
"""Lists and objects within each other that a node may hold: its inputs are two, and JSON's own writers stop at 254."""


def is_link(value: object) -> TypeGuard[list[Any]]:
    """Tell whether ComfyUI takes `value` as the output of another node: `[node_id, slot]`.

    Wire source: ComfyUI `comfy_execution/graph_utils.py` is_link.
    """
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float)
    )


def links(node: Node) -> Iterator[tuple[str, str, int]]:
    """Yield (input name, source node's id, output slot) for each input of `node` that is a link."""
    for name, value in node["inputs"].items():
        if is_link(value):
            yield name, value[0], value[1]


def ancestors(graph: Graph, node_ids: Iterable[str]) -> frozenset[str]:
    """Return the ids of these nodes and of all nodes whose outputs they need; ids that no node has are left out."""
    found: set[str] = set()
    waiting = [node_id for node_id in node_ids if node_id in graph]
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting.extend(source for _, source, _ in links(graph[node_id]) if source in graph)
    return frozenset(found)


def class_of(graph: Graph, node_id: str) -> str | None:
    """Return the class of a node; None if there is no such node."""
    node = graph.get(node_id)
    return None if node is None else str(node["class_type"])


def title_of(graph: Graph, node_id: str) -> str | None:
    """Return the title that a person gave the node (`_meta.title`); None if it has none."""
    meta = graph.get(node_id, {}).get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return title if isinstance(title, str) and title else None


def read_workflow(value: object, *, path: str = "input.workflow", check_links: bool = True) -> Graph:
    """Return the graph that `value` holds: an API-format workflow, its JSON text, or a `POST /prompt` body with it.

    The graph, its nodes and their inputs are copies, so that changing the graph never changes `value`; deeper values
    are shared and must be replaced, not changed.

    Args:
        value: What the caller sent.
        path: Where it stood in the request; problems are placed below it.
        check_links: Whether links to nodes that are not there are problems. The preflight finds them too, then with
            everything else that is wrong, and leaves out nodes that would not run.

    Raises:
        WorkflowFormatUI: the workflow is as ComfyUI's page saves it ("nodes" and "links" lists).
        InvalidWorkflow: with *every* node that is not of the right shape.
    """
    nodes = _unwrap(_parse(value, path), path)
    problems: list[Problem] = []
    graph: Graph = {}
    for node_id, node in nodes.items():
        problem = _shape_problem(node_id, node, path)
        if problem is not None:
            problems.append(problem)
        else:
            # A node without inputs may leave them out; ComfyUI itself would fail with a KeyError.
            graph[node_id] = {**node, "inputs": dict(node.get("inputs", {}))}
    if check_links:
        problems.extend(broken_links(graph, known=nodes.keys(), path=path))
    if problems:
        raise InvalidWorkflow(
            summary(problems),
            hint="Export the workflow with 'Export (API)' in ComfyUI's Workflow menu.",
            problems=problems,
        )
    return graph


def broken_links(graph: Graph, *, known: Iterable[str] = (), path: str = "workflow") -> list[Problem]:
    """Return a problem for each link that points at a node that is not there.

    Args:
        graph: The workflow.
        known: More ids that count as being there.
        path: What the problems' paths begin with.
    """
    there = {*graph, *known}
    return [
        Problem(
            message=f"node {clip(node_id)} ({clip(node['class_type'])}), input {clip(name)}: "
            f"linked to node {quote(source)}, which is not in the workflow",
            code="link_to_no_node",
            path=f"{path}.{node_id}.inputs.{name}",
            node_id=node_id,
            class_type=node["class_type"],
            input_name=name,
            received=received([source, slot]),
        )
        for node_id, node in graph.items()
        for name, source, slot in links(node)
        if source not in there
    ]


def _parse(value: object, path: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "a number"
        raise _refused(f"{path} is text that is no JSON: at {where}", path) from error
    except RecursionError as error:
        raise _refused(f"{path} is nested too deeply", path) from error


def _unwrap(value: object, path: str) -> dict[str, Any]:  # Any: as in Graph
    """Return the object that maps node ids to nodes, or say why there is none."""
    if isinstance(value, dict) and isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
        # The body of a `POST /prompt`, which many clients keep on disk.
        value = value["prompt"]
    if not isinstance(value, dict):
        raise _refused(f"{path} is {_kind(value)}, not an object of nodes", path)
    if isinstance(value.get("nodes"), list):
        raise WorkflowFormatUI(
            f"{path} is in the GUI format, which ComfyUI's page saves and its API does not take",
            hint="Export it with 'Export (API)' in ComfyUI's Workflow menu, and send that file.",
            problems=[Problem(message="workflow is in the GUI format", code="workflow_format_ui", path=path)],
        )
    if not value:
        raise _refused(f"{path} is empty: it has no nodes", path)
    return value


def _refused(message: str, path: str) -> InvalidWorkflow:
    return InvalidWorkflow(
        message,
        hint="Send a workflow in API format: an object of node id to {class_type, inputs}.",
        problems=[Problem(message=message, code="not_a_workflow", path=path)],
    )


def _shape_problem(node_id: object, node: object, path: str) -> Problem | None:
    """Return what is wrong with one entry of the workflow, if anything is."""
    name = clip(str(node_id))
    where, what = f"{path}.{name}", None
    if not isinstance(node_id, str):
        what = "its id is not text"
    elif not isinstance(node, dict):
        what = f"is {_kind(node)}, not an object"
    elif not isinstance(node.get("class_type"), str) or not node["class_type"]:
        where = f"{where}.class_type"
        what = "has no class_type" if not node.get("class_type") else "its class_type is not text"
    elif not isinstance(node.get("inputs", {}), dict):
        where = f"{where}.inputs"
        what = f"its inputs are {_kind(node['inputs'])}, not an object"
    elif _is_deeper(node, _MOST_LEVELS):
        what = f"is nested more than {_MOST_LEVELS} levels deep"
    if what is None:
        return None
    return Problem(message=f"node {name}: {what}", code="invalid_node", path=where, node_id=name)


def _is_deeper(value: dict[str, Any], levels: int) -> bool:  # Any: as in Graph
    """Tell whether lists and objects stand within each other more than so often; without recursion."""
    layer: list[dict[str, Any] | list[Any]] = [value]
    for _ in range(levels):
        items = (item for held in layer for item in (held.values() if isinstance(held, dict) else held))
        layer = [item for item in items if isinstance(item, dict | list)]
        if not layer:
            return False
    return True


def _kind(value: object) -> str:
    """Return what a JSON value is, in words."""
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null" if value is None else "no JSON value")
