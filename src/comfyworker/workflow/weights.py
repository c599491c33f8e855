"""How much of a job's time each node is likely to take, for a progress bar that moves evenly."""

from __future__ import annotations

from typing import Any

from comfyworker.jobs import Graph
from comfyworker.workflow.graph import ancestors, is_link
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.output_nodes import output_nodes

_MAX_STEPS = 10_000
"""Samplers of ComfyUI's own take no more."""


def node_weights(graph: Graph, classes: NodeClasses | None) -> dict[str, float]:
    """Return the weight of each node that will run: a sampler weighs as many as its steps, any other node 1.

    The weights are guesses from the graph alone: what a step costs beside a VAE is not known before it ran.

    Args:
        graph: The workflow.
        classes: What ComfyUI has; without it, every node is taken to run.
    """
    needed = frozenset(graph)
    if classes is not None:
        needed = ancestors(graph, output_nodes(graph, classes))
    return {node_id: _weight(graph, node_id, classes) for node_id in graph if node_id in needed}


def _weight(graph: Graph, node_id: str, classes: NodeClasses | None) -> float:
    node = graph[node_id]
    if is_link(node["inputs"].get("sigmas")):
        return 1.0 if _gives_sigmas(node, classes) else _scheduled_steps(graph, node_id)
    steps = _literal_steps(node)
    return 1.0 if steps is None or _gives_sigmas(node, classes) else steps


def _scheduled_steps(graph: Graph, node_id: str) -> float:
    """Follow the sigmas of a sampler up to the scheduler that makes them; 1 if none tells its steps."""
    seen = set[str]()
    while node_id in graph and node_id not in seen:
        seen.add(node_id)
        steps = _literal_steps(graph[node_id])
        if steps is not None:
            return steps
        link = graph[node_id]["inputs"].get("sigmas")
        if not is_link(link):
            break
        node_id = link[0]
    return 1.0


def _literal_steps(node: dict[str, Any]) -> float | None:  # Any: as in Graph
    """Return the steps that a node runs, if they stand in it as a number; some samplers run only a part of them."""
    steps = _whole(node["inputs"].get("steps"))
    if steps is None:
        return None
    start = _whole(node["inputs"].get("start_at_step")) or 0
    end = _whole(node["inputs"].get("end_at_step"))
    last = steps if end is None else min(steps, end)
    return float(min(max(last - start, 1), _MAX_STEPS))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _gives_sigmas(node: dict[str, Any], classes: NodeClasses | None) -> bool:  # Any: as in Graph
    """Tell whether a node only makes or changes a schedule, which takes no time."""
    class_type = str(node["class_type"])
    node_class = classes.get(class_type) if classes is not None else None
    if node_class is not None:
        return node_class.output_types[:1] == ("SIGMAS",)
    return class_type.endswith(("Scheduler", "Sigmas"))
