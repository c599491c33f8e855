"""How long a large workflow takes to be checked."""

import statistics
import time

from benchmarks.ground import Ground
from benchmarks.report import Row
from comfyworker.jobs import Graph
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.preflight import check_workflow
from support.workflows import node, save, text_to_image

ROUNDS = 100
BUDGET_MS = 2.0
BRANCHES = 15
SHARPENERS = 9


async def measure_preflight(ground: Ground) -> list[Row]:
    """Check a good workflow of 100 nodes against the node classes of the running ComfyUI."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"preflight of 100 nodes (rounds: {rounds})")
    object_info, graph = await ground.object_info(), graph_of_100()
    classes = NodeClasses(object_info)
    warm_ms = [_check_ms(graph, classes) for _ in range(rounds)]
    cold_ms = [_check_ms(graph, NodeClasses(object_info)) for _ in range(rounds)]
    return [
        _row("warm", "preflight of 100 nodes, classes seen before, p50", warm_ms, rounds),
        _row("cold", "preflight of 100 nodes, every class for the first time, p50", cold_ms, rounds),
    ]


def graph_of_100() -> Graph:
    """Return a workflow of 100 nodes: one checkpoint, 15 text-to-image branches, a chain of sharpeners at the end."""
    graph: Graph = {}
    for branch in range(BRANCHES):
        for old_id, made in text_to_image(width=256, height=256).items():
            if old_id == "1":  # all share one checkpoint
                graph.setdefault("1", made)
                continue
            graph[f"{branch}0{old_id}"] = {**made, "inputs": _moved(made["inputs"], branch)}
    last = "006"
    for number in range(SHARPENERS):
        previous, last = last, f"sharpen{number}"
        graph[last] = node("ImageSharpen", sharpen_radius=1, sigma=1.0, alpha=1.0, image=[previous, 0])
    graph["009"] = save(last)
    return graph


def _moved(inputs: dict[str, object], branch: int) -> dict[str, object]:
    """Return the inputs with their links led to the nodes of `branch`."""
    moved: dict[str, object] = {}
    for name, value in inputs.items():
        is_own = isinstance(value, list) and value[0] != "1"
        moved[name] = [f"{branch}0{value[0]}", value[1]] if isinstance(value, list) and is_own else value
    return moved


def _check_ms(graph: Graph, classes: NodeClasses) -> float:
    begun_at = time.perf_counter()
    problems = check_workflow(graph, classes)
    duration_ms = 1000 * (time.perf_counter() - begun_at)
    if problems or len(graph) != 100:
        message = f"the workflow of {len(graph)} nodes is not as it should be: {problems}"
        raise RuntimeError(message)
    return duration_ms


def _row(name: str, what: str, spent_ms: list[float], rounds: int) -> Row:
    return Row(
        name=f"preflight.{name}",
        what=what,
        unit="ms",
        floor=None,
        ours=statistics.median(spent_ms),
        budget=BUDGET_MS,
        rule=f"{BUDGET_MS:g} ms",
        rounds=rounds,
    )
