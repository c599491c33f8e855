"""Marks that make ComfyUI run its output nodes for every job."""

from __future__ import annotations

from comfyworker.jobs import Graph
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.output_nodes import output_nodes

MARK = "comfyworker_job"
"""The input that is added; no class declares it."""


def mark_outputs(graph: Graph, classes: NodeClasses, token: str) -> Graph:
    """Return a copy of `graph` in which every output node runs anew, while all that comes before it stays cached.

    ComfyUI does not run a node again whose inputs are those of the last job, but reports the file names of then. We
    delete outputs after delivery, and ComfyUI takes the lowest free counter, so such a name may meanwhile be another
    job's picture. The cache's key holds all inputs of a node, declared or not, and a class is handed only those that it
    declares (ComfyUI `comfy_execution/caching.py` CacheKeySetInputSignature; `execution.py` get_input_data).

    Args:
        graph: The workflow; it is left as it was.
        classes: What ComfyUI has, for which nodes are outputs.
        token: What no other job on this ComfyUI has, such as its prompt_id.
    """
    marked = dict(graph)
    for node_id in output_nodes(graph, classes):
        node = graph[node_id]
        marked[node_id] = {**node, "inputs": {**node["inputs"], MARK: token}}
    return marked
