"""Check a workflow against ComfyUI's classes before it is queued, and find everything that ComfyUI would refuse.

What ComfyUI runs is never refused. So only nodes that an output node needs are checked, as ComfyUI does; and where a
class may have rules that `/object_info` does not tell, ComfyUI is left to judge.
Wire source: ComfyUI `execution.py` validate_prompt and validate_inputs; `comfy_execution/validation.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from comfyworker.errors import InvalidWorkflow, MissingAsset, MissingModel, MissingNode, Problem
from comfyworker.jobs import Graph
from comfyworker.wording import clip, quote, summary
from comfyworker.workflow._findings import Findings
from comfyworker.workflow.graph import ancestors, links
from comfyworker.workflow.node_classes import COMBO, InputSpec, NodeClass, NodeClasses
from comfyworker.workflow.output_nodes import output_nodes

_ABSENT = object()


def check_workflow(graph: Graph, classes: NodeClasses) -> tuple[Problem, ...]:
    """Return everything that ComfyUI would refuse in `graph`, in its order; nothing if only ComfyUI itself can tell.

    A custom node can check its inputs by rules of its own (`VALIDATE_INPUTS`), which `/object_info` does not tell.
    Its odd values and links are therefore reported only beside problems that are certain; alone they go to ComfyUI,
    and `problems_from_comfyui` says what came of it in the same words.
    """
    check = _Check(graph, classes)
    check.run()
    if not check.found.has_certain:
        return ()
    place = {node_id: index for index, node_id in enumerate(graph)}
    return tuple(sorted(check.found.problems, key=lambda problem: place.get(problem.node_id or "", -1)))


def check_input(graph: Graph, classes: NodeClasses, node_id: str, name: str) -> Problem | None:
    """Return why ComfyUI would surely refuse the value of one input; None if it takes it, or if only it can tell.

    A link is not looked at, nor an input that is not there or that the class does not declare.
    """
    node = graph[node_id]
    node_class, value = classes.get(node["class_type"]), node["inputs"].get(name, _ABSENT)
    spec = node_class.inputs.get(name) if node_class is not None else None
    if node_class is None or spec is None or value is _ABSENT or isinstance(value, list):
        return None
    found = Findings(graph, classes)
    _check_value(found, node_id, node_class, spec, value)
    return found.problems[0] if found.has_certain else None


def sound_outputs(graph: Graph, classes: NodeClasses, problems: Sequence[Problem]) -> frozenset[str]:
    """Return the output nodes that none of `problems` touches: ComfyUI runs these and ignores the others."""
    if any(problem.node_id is None or problem.code == "missing_node" for problem in problems):
        return frozenset()
    broken = {problem.node_id for problem in problems}
    return frozenset(node_id for node_id in output_nodes(graph, classes) if not broken & ancestors(graph, [node_id]))


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one error for all problems; do nothing if there are none.

    Raises:
        MissingModel: if all of them are missing model files.
        MissingNode: if all of them are missing node classes.
        MissingAsset: if all of them are missing input files.
        InvalidWorkflow: for any others, and for a mixture.
    """
    if problems:
        _raise(problems)


def _raise(problems: Sequence[Problem]) -> NoReturn:
    message = summary(problems)
    codes = {problem.code for problem in problems}
    if codes == {"missing_model"}:
        hint = "Put the files into ComfyUI's models folder, or name models that it has."
        raise MissingModel(message, hint=hint, problems=problems)
    if codes == {"missing_node"}:
        hint = "Install the custom nodes that bring these classes, then restart ComfyUI, or correct the names."
        raise MissingNode(message, hint=hint, problems=problems)
    if codes == {"missing_asset"}:
        hint = "Send these files with the request, under the names that the workflow uses."
        raise MissingAsset(message, hint=hint, problems=problems)
    raise InvalidWorkflow(message, hint="Correct each of these places in the workflow.", problems=problems)


class _Check:
    """One walk over one graph."""

    def __init__(self, graph: Graph, classes: NodeClasses) -> None:
        self.graph = graph
        self.classes = classes
        self.found = Findings(graph, classes)

    def run(self) -> None:
        unknown = [node_id for node_id, node in self.graph.items() if node["class_type"] not in self.classes]
        for node_id in unknown:
            self.found.add(self.found.unknown_class(node_id))
        outputs = output_nodes(self.graph, self.classes)
        if not outputs and not unknown:
            message = "the workflow has no output node, such as SaveImage or PreviewImage, so nothing would run"
            self.found.add(Problem(message=message, code="no_outputs", path="workflow"))
        # A class that is not there may be an output's: then all that it needs would have been checked, too. Without any
        # output, everything is: whoever adds one should not meet the rest only then.
        waiting, seen = [*outputs, *unknown] or list(self.graph), set[str]()
        while waiting:
            node_id = waiting.pop()
            if node_id in seen:
                continue
            seen.add(node_id)
            node_class = self.classes.get(self.graph[node_id]["class_type"])
            if node_class is None:
                waiting.extend(source for _, source, _ in links(self.graph[node_id]) if source in self.graph)
            else:
                waiting.extend(self._check_node(node_id, node_class))
        self._check_execution(ancestors(self.graph, outputs))

    def _check_node(self, node_id: str, node_class: NodeClass) -> list[str]:
        """Check the inputs that the class declares; return the nodes that they are linked to."""
        inputs, sources = self.graph[node_id]["inputs"], []
        for name, spec in node_class.inputs.items():
            value = inputs.get(name, _ABSENT)
            if value is _ABSENT:
                if spec.required and not spec.grows:
                    self.found.add(self.found.missing_input(node_id, node_class, name))
            elif isinstance(value, list):
                if self._check_link(node_id, node_class, spec, value):
                    sources.append(value[0])
            else:
                _check_value(self.found, node_id, node_class, spec, value)
        return sources

    def _check_link(self, node_id: str, node_class: NodeClass, spec: InputSpec, value: list[Any]) -> bool:
        """Check one link; return whether it leads to a node."""
        found = self.found
        if len(value) != 2 or not isinstance(value[0], str):
            found.add(found.bad_link(node_id, spec.name, value))
            return False
        source, slot = value
        if source not in self.graph:
            what = f"linked to node {quote(source)}, which is not in the workflow"
            found.add(found.at_input(node_id, spec.name, "link_to_no_node", what))
            return False
        source_class = self.classes.get(self.graph[source]["class_type"])
        if source_class is None:
            return True
        kinds = source_class.output_types
        # A negative slot counts from the end, in ComfyUI as here.
        if not isinstance(slot, int) or not -len(kinds) <= slot < len(kinds):
            what = f"linked to output {quote(slot)} of {found.label(source)}, which has {_slots(kinds)}"
            found.add(found.at_input(node_id, spec.name, "link_to_no_output", what))
        elif not _fits(kinds[slot], spec):
            what = (
                f"takes {_kind(spec.type_name)}, but output {slot} of {found.label(source)} gives {_kind(kinds[slot])}"
            )
            certain = not (node_class.is_custom or source_class.is_custom)
            found.add(found.at_input(node_id, spec.name, "link_type_mismatch", what), certain=certain)
        return True

    def _check_execution(self, needed: frozenset[str]) -> None:
        """Find what only shows when ComfyUI orders the nodes: links of undeclared inputs to nowhere, and cycles."""
        for node_id in needed:
            node_class = self.classes.get(self.graph[node_id]["class_type"])
            for name, source, _ in links(self.graph[node_id]):
                if source not in self.graph and (node_class is None or name not in node_class.inputs):
                    what = f"linked to node {quote(source)}, which is not in the workflow"
                    self.found.add(self.found.at_input(node_id, name, "link_to_no_node", what))
        cycle = _find_cycle(self.graph, needed)
        if cycle:
            way = " → ".join(clip(node_id) for node_id in [*cycle, cycle[0]])
            self.found.add(self.found.at_node(cycle[0], "cycle", f"its inputs lead back to its own output: {way}"))


def _check_value(
    found: Findings,
    node_id: str,
    node_class: NodeClass,
    spec: InputSpec,
    value: Any,  # noqa: ANN401 - any JSON value
) -> None:
    """Check one literal value as ComfyUI does: convert it, then look at its bounds and choices."""
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    try:
        if spec.type_name == "INT":
            value = int(value)
        elif spec.type_name == "FLOAT":
            value = float(value)
    except (TypeError, ValueError, OverflowError):
        found.add(found.bad_type(node_id, spec.name, spec.type_name))
        return
    certain = not node_class.is_custom
    if (spec.minimum is not None or spec.maximum is not None) and isinstance(value, int | float):
        low = -math.inf if spec.minimum is None else spec.minimum
        high = math.inf if spec.maximum is None else spec.maximum
        # Asked this way round, NaN passes, as it does in ComfyUI.
        if value < low or value > high:
            found.add(found.out_of_range(node_id, spec, value), certain=certain)
            return
    if spec.is_upload and spec.type_name == COMBO and not isinstance(value, str | list):
        found.add(found.bad_type(node_id, spec.name, "file name"), certain=certain)
    elif spec.choices is not None and not spec.is_open and not spec.offers(value):
        found.add(found.not_offered(node_id, spec, value), certain=certain)


def _fits(given: object, spec: InputSpec) -> bool:
    """Tell whether an output of type `given` may be linked to the input."""
    if spec.is_list_style:
        return given in ("*", spec.choices)
    if given in (spec.type_name, "*") or spec.type_name == "*":
        return True
    if not isinstance(given, str):
        return False
    if given.startswith("COMFY_") or spec.type_name.startswith("COMFY_"):
        return True  # types that are settled only when the graph runs
    given_types = {kind.strip() for kind in given.split(",")}
    taken_types = {kind.strip() for kind in spec.type_name.split(",")}
    return bool(given_types & taken_types) or "*" in given_types | taken_types


def _kind(type_name: object) -> str:
    return clip(type_name) if isinstance(type_name, str) else "a choice"


def _slots(kinds: tuple[object, ...]) -> str:
    if not kinds:
        return "no outputs"
    return ", ".join(f"{slot}: {_kind(kind)}" for slot, kind in enumerate(kinds[:10]))


def _find_cycle(graph: Graph, needed: frozenset[str]) -> list[str]:
    """Return the ids of one cycle in the order of its links, beginning with the smallest; empty if there is none."""
    left = {node_id: {s for _, s, _ in links(graph[node_id]) if s in needed} for node_id in needed}
    users: dict[str, list[str]] = {node_id: [] for node_id in needed}
    for node_id, sources in left.items():
        for source in sources:
            users[source].append(node_id)
    ready = [node_id for node_id, sources in left.items() if not sources]
    while ready:
        done = ready.pop()
        del left[done]
        for user in users[done]:
            left[user].discard(done)
            if not left[user]:
                ready.append(user)
    if not left:
        return []
    # What is left needs something that is left, so going upstream must come round.
    way, node_id = dict[str, None](), min(left)
    while node_id not in way:
        way[node_id] = None
        node_id = min(left[node_id])
    ring = list(way)[list(way).index(node_id) :]
    start = ring.index(min(ring))
    return list(reversed(ring[start + 1 :] + ring[: start + 1]))
