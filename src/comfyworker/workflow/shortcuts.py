"""Set the prompt, seed, size or steps of a workflow whose nodes the caller does not name.

The usual node is taken if it has such an input (ids "6", "25" and "27", which clients rely on), else the only one that
can be meant. Whatever the model family, that is: the text encoder that `positive` leads back to, the sampler's or noise
node's seed, and the latent that sampling starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from comfyworker.errors import InvalidWorkflow, Problem
from comfyworker.jobs import RANDOM_INT, Graph, Shortcuts
from comfyworker.wording import LISTED_CHOICES, clip, nearest, quote, summary
from comfyworker.workflow._findings import Findings
from comfyworker.workflow._targets import Target, find_targets, takes
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.overrides import placed_at, refused_value
from comfyworker.workflow.placeholders import draw_for

DEFAULT_IDS = {"prompt": "6", "seed": "25", "size": "27"}
"""The nodes that clients mean when they name none."""
DRAWN_SEED = -1
_HINT = "Name the node by its id, or set the input by an override."


class Asked(NamedTuple):
    """One shortcut of a request."""

    kind: str
    """What is looked for: `prompt`, `seed`, `size` or `steps`."""
    values: dict[str, JsonValue]
    """Shortcut → value."""
    node_id: str | None
    """The node that the caller named."""


def apply_shortcuts(
    graph: Graph,
    shortcuts: Shortcuts,
    classes: NodeClasses,
    draw: Callable[[], int],
    *,
    prefix: str = "",
) -> tuple[Graph, dict[str, JsonValue]]:
    """Return a copy of `graph` with the shortcuts' values, and what was drawn for them.

    An input that is linked to a primitive node is set there; any other link is replaced by the value.

    Args:
        graph: The workflow; it is left as it was.
        shortcuts: What to set.
        classes: What ComfyUI has.
        draw: Gives a random integer from 0 to 2³² - 1.
        prefix: What the problems' paths begin with.

    Raises:
        InvalidWorkflow: with every shortcut that fits no node, several nodes, or whose value ComfyUI would refuse.
    """
    setting = _Setting(graph, classes, draw, prefix)
    for asked in _asked(shortcuts):
        setting.apply(asked)
    if setting.problems:
        raise InvalidWorkflow(summary(setting.problems), hint=_HINT, problems=setting.problems)
    return setting.graph, setting.used


def _asked(shortcuts: Shortcuts) -> Iterable[Asked]:
    if shortcuts.prompt is not None:
        yield Asked("prompt", {"prompt": shortcuts.prompt}, shortcuts.prompt_node_id)
    if shortcuts.seed is not None:
        yield Asked("seed", {"seed": shortcuts.seed}, shortcuts.seed_node_id)
    size: dict[str, JsonValue] = {"width": shortcuts.width, "height": shortcuts.height}
    if any(value is not None for value in size.values()):
        size = {name: value for name, value in size.items() if value is not None}
        yield Asked("size", size, shortcuts.size_node_id)
    if shortcuts.steps is not None:
        yield Asked("steps", {"steps": shortcuts.steps}, None)


class _Setting:
    """One request's shortcuts on one graph."""

    def __init__(self, graph: Graph, classes: NodeClasses, draw: Callable[[], int], prefix: str) -> None:
        self.graph = graph
        self.problems: list[Problem] = []
        self.used: dict[str, JsonValue] = {}
        self._classes = classes
        self._draw = draw
        self._prefix = prefix

    def apply(self, asked: Asked) -> None:
        """Set one shortcut, or keep why that cannot be."""
        target = self._choose(asked)
        if target is None:
            return
        written: dict[tuple[str, str], JsonValue] = {}
        for name, value in asked.values.items():
            for place, direct in target.places(name):
                chosen = self._value(name, value, place)
                # Width and height may hang on one primitive node: then each input gets a value of its own.
                written[direct if written.get(place, chosen) != chosen else place] = chosen
        for (node_id, input_name), value in written.items():
            node = self.graph[node_id]
            self.graph = {**self.graph, node_id: {**node, "inputs": {**node["inputs"], input_name: value}}}
            problem = refused_value(self.graph, self._classes, node_id, input_name)
            if problem is not None:
                name = input_name if input_name in asked.values else next(iter(asked.values))
                self.problems.append(placed_at(f"{self._prefix}{name}", problem))

    def _value(self, name: str, value: JsonValue, place: tuple[str, str]) -> JsonValue:
        if name != "seed" or value not in (DRAWN_SEED, RANDOM_INT):
            return value
        if name not in self.used:
            self.used[name] = draw_for(self.graph, self._classes, *place, self._draw)
        return self.used[name]

    def _choose(self, asked: Asked) -> Target | None:
        if asked.node_id is not None:
            return self._named(asked, asked.node_id)
        usual = DEFAULT_IDS.get(asked.kind)
        target = takes(self.graph, self._classes, usual, asked.kind) if usual in self.graph else None
        if target is not None:
            return target
        found = find_targets(self.graph, self._classes, asked.kind)
        if len(found) == 1:
            return found[0]
        self._refuse(asked, found)
        return None

    def _named(self, asked: Asked, node_id: str) -> Target | None:
        key = f"{self._prefix}{asked.kind}_node_id"
        if node_id in self.graph:
            target = takes(self.graph, self._classes, node_id, asked.kind)
            if target is not None:
                return target
            what = f"node {self._label(node_id)} takes no {asked.kind}"
        else:
            what = f"the workflow has no node {quote(node_id)} to take the {asked.kind}"
        able = self._able(asked.kind)
        near = nearest(node_id, able)
        what += f"; these do: {self._labels(able)}" if able else "; no node does"
        self.problems.append(
            Problem(
                message=f"{key}: {what}",
                code="unknown_node" if node_id not in self.graph else "unknown_input",
                path=key,
                node_id=node_id,
                received=clip(node_id),
                choices=near.listed,
            )
        )
        return None

    def _refuse(self, asked: Asked, found: Sequence[Target]) -> None:
        name = f"{self._prefix}{next(iter(asked.values))}"
        ids = [target.node_id for target in found]
        key = f"{self._prefix}{asked.kind}_node_id"
        way = "set it by an override" if asked.kind == "steps" else f"name one as {key}"
        if found:
            what = f"{len(found)} nodes could be meant: {self._labels(ids)}; {way}"
            code = "ambiguous_node"
        else:
            able = self._able(asked.kind)
            what = f"the workflow has no node that this could be for ({asked.kind})"
            if able:
                what = f"none of the nodes that take it leads to an output: {self._labels(able)}; {way}"
            ids, code = able, "unknown_node"
        self.problems.append(
            Problem(message=f"{name}: {what}", code=code, path=name, choices=tuple(ids[:LISTED_CHOICES]))
        )

    def _able(self, kind: str) -> list[str]:
        return [node_id for node_id in self.graph if takes(self.graph, self._classes, node_id, kind) is not None]

    def _labels(self, ids: Sequence[str]) -> str:
        more = ", …" if len(ids) > LISTED_CHOICES else ""
        return ", ".join(self._label(node_id) for node_id in ids[:LISTED_CHOICES]) + more

    def _label(self, node_id: str) -> str:
        return Findings(self.graph, self._classes).label(node_id).removeprefix("node ")
