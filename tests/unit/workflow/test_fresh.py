"""Marks that make output nodes run for every job."""

import copy

from hypothesis import given

from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, mark_outputs
from strategies import workflows


def test_only_outputs_are_marked(graph: Graph, classes: NodeClasses) -> None:
    """An output node gets the token as one more input; all others stay cached, and the graph is left alone."""
    kept = copy.deepcopy(graph)
    expected = copy.deepcopy(graph)
    expected["10"]["inputs"]["comfyworker_job"] = "token"
    assert mark_outputs(graph, classes, "token") == expected
    assert graph == kept


@given(workflows())
def test_marking_twice_equals_once(graph: Graph) -> None:
    """The last token counts, and the graph is never changed."""
    classes = NodeClasses({"SaveImage": {"output_node": True}})
    kept = copy.deepcopy(graph)
    assert mark_outputs(mark_outputs(graph, classes, "a"), classes, "b") == mark_outputs(graph, classes, "b")
    assert graph == kept
