"""How much each node weighs in a job's progress."""

from typing import Any

import pytest
from hypothesis import given

from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, node_weights
from strategies import workflows


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return a node."""
    return {"class_type": class_type, "inputs": inputs}


def test_sampler_weighs_its_steps(graph: Graph, classes: NodeClasses) -> None:
    """A sampler weighs as many as its steps, every other node 1."""
    assert node_weights(graph, classes) == {**dict.fromkeys(graph, 1.0), "6": 4.0}


def test_only_nodes_that_run_weigh(graph: Graph, classes: NodeClasses) -> None:
    """A node that no output needs has no weight."""
    graph["20"] = node("KSampler", steps=20)
    assert "20" not in node_weights(graph, classes)


def test_without_classes_every_node_weighs(graph: Graph) -> None:
    """Where outputs are not known, all nodes count."""
    graph["20"] = node("KSampler", steps=20)
    assert node_weights(graph, None) == {**dict.fromkeys(graph, 1.0), "6": 4.0, "20": 20.0}


@pytest.mark.parametrize("known", [True, False])
def test_scheduler_gives_its_steps_to_the_sampler(classes: NodeClasses, known: bool) -> None:
    """A sampler that is given sigmas weighs the steps of the scheduler, also through nodes between them."""
    graph = {
        "1": node("BasicScheduler", steps=25),
        "2": node("SplitSigmas", sigmas=["1", 0]),
        "3": node("SamplerCustomAdvanced", sigmas=["2", 0]),
        "4": node("SamplerCustom", sigmas=["1", 0]),
        "5": node("VAEDecode", samples=["3", 0]),
        "6": node("VAEDecode", samples=["4", 0]),
        "7": node("SaveImage", images=["5", 0]),
        "8": node("SaveImage", images=["6", 0]),
    }
    assert node_weights(graph, classes if known else None) == {**dict.fromkeys(graph, 1.0), "3": 25.0, "4": 25.0}


@pytest.mark.parametrize(
    ("inputs", "weight"),
    [
        ({"steps": 20, "start_at_step": 5, "end_at_step": 10000}, 15.0),
        ({"steps": 20, "start_at_step": 0, "end_at_step": 5}, 5.0),
        ({"steps": 20, "start_at_step": 30, "end_at_step": 10}, 1.0),
        ({"steps": 0}, 1.0),
        ({"steps": -3}, 1.0),
        ({"steps": 10**9}, 10000.0),
        ({"steps": ["1", 0]}, 1.0),
        ({"steps": "20"}, 1.0),
        ({"steps": True}, 1.0),
        ({"sigmas": ["99", 0]}, 1.0),
        ({"sigmas": ["1", 0]}, 1.0),
    ],
)
def test_steps_that_a_sampler_runs(inputs: dict[str, Any], weight: float) -> None:
    """Samplers that run a part of their steps weigh that part; steps that no number tells count as one."""
    assert node_weights({"1": node("KSamplerAdvanced", **inputs)}, None) == {"1": weight}


@given(workflows())
def test_any_workflow_has_weights(graph: Graph) -> None:
    """Every node weighs 1 at least, whatever its inputs are."""
    weights = node_weights(graph, None)
    assert (set(weights), all(weight >= 1 for weight in weights.values())) == (set(graph), True)
