"""Which nodes of a workflow ComfyUI runs it for."""

from __future__ import annotations

from comfyworker.jobs import Graph
from comfyworker.workflow.node_classes import NodeClasses


def output_nodes(graph: Graph, classes: NodeClasses) -> list[str]:
    """Return the ids of the nodes that ComfyUI counts as outputs, in the graph's order; unknown classes are none."""
    found = []
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"])
        if node_class is not None and node_class.is_output:
            found.append(node_id)
    return found
