"""What is wrong with a node's inputs, each said in the same words whether we or ComfyUI found it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from comfyworker.errors import Problem
from comfyworker.jobs import Graph
from comfyworker.wording import LISTED_CHOICES, Nearest, clip, listing, nearest, quote, received
from comfyworker.workflow.graph import class_of, title_of
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.node_classes import InputSpec, NodeClass, NodeClasses

_SPELLED_WORDS = 20
"""How many words get a search for their nearest spelling; a thousand broken nodes must not hold up the event loop."""


class Findings:
    """Words the problems of one graph and keeps them.

    Args:
        graph: The workflow, for the labels of its nodes.
        classes: What ComfyUI has; None if that is not known.
    """

    def __init__(self, graph: Graph, classes: NodeClasses | None) -> None:
        """Begin without problems."""
        self.problems: list[Problem] = []
        self.has_certain = False
        """Whether any of them would surely be refused by ComfyUI."""
        self._graph = graph
        self._classes = classes
        self._spelled: dict[tuple[str, int], Nearest] = {}

    def add(self, problem: Problem, *, certain: bool = True) -> None:
        """Keep a problem, once.

        Args:
            problem: What is wrong.
            certain: Whether ComfyUI surely refuses it; a custom node may have checks of its own.
        """
        self.has_certain = self.has_certain or certain
        if problem not in self.problems[-_SPELLED_WORDS:]:
            self.problems.append(problem)

    def label(self, node_id: str) -> str:
        """Return how a person would find the node: its id, class, and title where it says more than the class."""
        class_type, title = class_of(self._graph, node_id), title_of(self._graph, node_id)
        if class_type is None:
            return f"node {clip(node_id)}"
        known = self._classes.get(class_type) if self._classes is not None else None
        names = {class_type, known.display_name if known else class_type}
        if title is None or _letters(title) in {_letters(name) for name in names}:
            return f"node {clip(node_id)} ({clip(class_type)})"
        return f"node {clip(node_id)} ({clip(class_type)}, titled {quote(title)})"

    def at_node(self, node_id: str, code: str, what: str, *, near: Nearest | None = None) -> Problem:
        """Return a problem of a whole node."""
        return Problem(
            message=f"{self.label(node_id)}: {what}",
            code=code,
            path=f"workflow.{clip(node_id)}",
            node_id=node_id,
            class_type=class_of(self._graph, node_id),
            choices=near.listed if near else (),
            suggestion=near.suggestion if near else None,
        )

    def at_input(self, node_id: str, name: str, code: str, what: str, *, near: Nearest | None = None) -> Problem:
        """Return a problem of one input; what was received there is read from the graph."""
        node = self._graph.get(node_id)
        return Problem(
            message=f"{self.label(node_id)}, input {clip(name)}: {what}",
            code=code,
            path=f"workflow.{clip(node_id)}.inputs.{clip(name)}",
            node_id=node_id,
            class_type=class_of(self._graph, node_id),
            input_name=name,
            received=received(node["inputs"].get(name)) if node else None,
            choices=near.listed if near else (),
            suggestion=near.suggestion if near else None,
        )

    def spelling(self, word: str, candidates: Collection[object]) -> Nearest:
        """Return the candidates nearest to `word`, unless there were too many such searches already."""
        key = (word, id(candidates))
        if key not in self._spelled:
            if len(self._spelled) >= _SPELLED_WORDS:
                return Nearest((), tuple(str(choice) for choice in list(candidates)[:LISTED_CHOICES]))
            self._spelled[key] = nearest(word, candidates)
        return self._spelled[key]

    def unknown_class(self, node_id: str) -> Problem:
        """Return the problem of a class that this ComfyUI does not have."""
        class_type = class_of(self._graph, node_id) or "?"
        near = self.spelling(class_type, self._classes) if self._classes is not None else None
        hint = f"; did you mean {quote(near.suggestion)}?" if near and near.suggestion else ""
        return self.at_node(node_id, "missing_node", f"this ComfyUI has no class {quote(class_type)}{hint}", near=near)

    def not_offered(self, node_id: str, spec: InputSpec, value: object) -> Problem:
        """Return the problem of a value that a combo does not offer."""
        choices = spec.choices or ()
        near = self.spelling(value if isinstance(value, str) else quote(value), choices)
        missing_model = spec.is_loader or (not choices and is_model_name(value))
        what = f"{quote(value)} is not {'there' if missing_model else 'offered'}"
        if near.suggestion:
            what += f"; did you mean {quote(near.suggestion)}? ({_count(len(choices))})"
        elif choices:
            what += f"; there {'is' if len(choices) == 1 else 'are'} {_count(len(choices))}: "
            what += listing(near.listed, len(choices))
        else:
            what += "; ComfyUI has no such files yet" if missing_model else "; there is nothing to choose from"
        return self.at_input(
            node_id, spec.name, "missing_model" if missing_model else "value_not_in_list", what, near=near
        )

    def not_there(self, node_id: str, spec: InputSpec | None, name: str) -> Problem:
        """Return the problem of an input file that ComfyUI does not find."""
        node = self._graph.get(node_id)
        value = node["inputs"].get(name) if node else None
        if isinstance(value, dict):
            value = value.get("__value__", value)
        near = self.spelling(value, spec.choices) if spec and spec.choices and isinstance(value, str) else None
        hint = f"; did you mean {quote(near.suggestion)}?" if near and near.suggestion else ""
        what = f"{quote(value)} is not in ComfyUI's input folder and did not come with the request{hint}"
        return self.at_input(node_id, name, "missing_asset", what, near=near)

    def missing_input(self, node_id: str, node_class: NodeClass | None, name: str) -> Problem:
        """Return the problem of a required input that is not there, naming one that could be a misspelling of it."""
        spec = node_class.inputs.get(name) if node_class else None
        kind = f" ({clip(spec.type_name)})" if spec else ""
        given = self._graph[node_id]["inputs"] if node_id in self._graph else {}
        strangers = tuple(key for key in given if node_class is None or key not in node_class.inputs)
        near = nearest(name, strangers[:LISTED_CHOICES]).suggestion
        hint = f"; there is {quote(near)}, which its class does not know" if near and node_class else ""
        return self.at_input(node_id, name, "required_input_missing", f"is required{kind} and is not there{hint}")

    def bad_link(self, node_id: str, name: str, value: list[Any]) -> Problem:
        """Return the problem of a list that is no link; ComfyUI takes every list in a declared input for one."""
        what = f'{quote(value)} is no link; a link is [node_id, slot], a list as value is {{"__value__": […]}}'
        if len(value) == 2 and str(value[0]) in self._graph:
            what = f"a link names its node as text: [{json.dumps(str(value[0]))}, {quote(value[1])}]"
        return self.at_input(node_id, name, "bad_link", what)

    def bad_type(self, node_id: str, name: str, type_name: str) -> Problem:
        """Return the problem of a value that cannot become what its input takes."""
        value = self._graph[node_id]["inputs"].get(name) if node_id in self._graph else None
        article = "an" if type_name[:1] in "AEIOU" else "a"
        what = f"{quote(value)} cannot be read as {article} {clip(type_name)}"
        return self.at_input(node_id, name, "invalid_value_type", what)

    def out_of_range(self, node_id: str, spec: InputSpec, value: object) -> Problem:
        """Return the problem of a number beyond its bounds."""
        low, high = spec.minimum, spec.maximum
        if low is not None and high is not None:
            bounds = f"outside of {low} to {high}"
        else:
            bounds = f"smaller than {low}" if low is not None else f"larger than {high}"
        return self.at_input(node_id, spec.name, "value_out_of_range", f"{quote(value)} is {bounds}")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _count(number: int) -> str:
    return "1 choice" if number == 1 else f"{number} choices"
