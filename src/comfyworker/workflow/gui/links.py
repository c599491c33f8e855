"""Where an input's value really comes from: through reroutes, bypassed nodes, and in and out of subgraphs.

Wire source: ComfyUI's frontend, `src/lib/litegraph/src/subgraph/ExecutableNodeDTO.ts` resolveInput and resolveOutput,
`src/extensions/core/widgetInputs.ts` applyToGraph; KJNodes, `web/js/setgetnodes.js`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfyworker.errors import Problem
from comfyworker.wording import clip, quote
from comfyworker.workflow.gui.document import BYPASSED, INPUT_NODE, MUTED, GuiNode, Link, Slot
from comfyworker.workflow.gui.scopes import Scope
from comfyworker.workflow.gui.widgets import ordered_slots
from comfyworker.workflow.node_classes import NodeClasses

PRIMITIVE = "PrimitiveNode"
REROUTES = frozenset({"Reroute", "Reroute (rgthree)", "SetNode"})
"""Nodes of the page that hand their input on."""
GETTER, SETTER = "GetNode", "SetNode"


@dataclass(frozen=True, slots=True)
class FromNode:
    """The input takes a node's output."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """The input takes a value that stands elsewhere in the workflow."""

    value: Any  # any JSON value


@dataclass(frozen=True, slots=True)
class Nothing:
    """The input takes nothing."""

    is_cut: bool = False
    """Whether it was linked to a muted node: then its own widget's value does not count either."""


Source = FromNode | Fixed | Nothing
_Place = tuple[Scope, Slot | Link]
"""Where to look next: what comes into an input, or along a link."""


class Unresolved(Exception):
    """A link leads into a circle or to a name that nobody sets."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class LinkResolver:
    """Follows links from inputs to what they stand for."""

    def __init__(self, classes: NodeClasses) -> None:
        self._classes = classes

    def resolve(self, scope: Scope, slot: Slot) -> Source:
        """Return what an input takes.

        Raises:
            Unresolved: its link leads into a circle, or to a GetNode whose SetNode is not there.
        """
        kind = slot.type_name
        otherwise: Source = Nothing()
        at: _Place | Source = (scope, slot)
        seen = set[tuple[tuple[str, ...], str]]()
        while isinstance(at, tuple):
            scope, place = at
            if isinstance(place, Slot):
                link = scope.graph.links.get(place.link) if place.link is not None else None
                if link is None:
                    return otherwise
            else:
                link = place
            key = (scope.path, link.link_id)
            if key in seen:
                raise Unresolved(_circle(scope, link))
            seen.add(key)
            if link.origin_id == INPUT_NODE and scope.parent is not None:
                at, otherwise = self._leave(scope, link, otherwise)
            else:
                otherwise = Nothing()
                at, kind = self._follow(scope, link, kind)
        return at

    def _leave(self, scope: Scope, link: Link, otherwise: Source) -> tuple[_Place | Source, Source]:
        """Go from a subgraph's input out to its instance, whose own value counts where nothing is linked."""
        outer = scope.instance_input(link.origin_slot)
        inputs = scope.graph.inputs
        name = inputs[link.origin_slot].name if 0 <= link.origin_slot < len(inputs) else ""
        if name in scope.host_values:
            otherwise = Fixed(scope.host_values[name])
        if outer is None or scope.parent is None:
            return otherwise, otherwise
        return (scope.parent, outer), otherwise

    def _follow(self, scope: Scope, link: Link, kind: str) -> tuple[_Place | Source, str]:
        """Go from a link to where it comes from; return that, and the type that is looked for from there."""
        node = scope.graph.nodes.get(link.origin_id)
        if node is None:
            return Nothing(), kind
        if node.type_name == PRIMITIVE:
            return primitive_value(scope, node), kind
        if node.mode == MUTED:
            return Nothing(is_cut=True), kind
        child = scope.children.get(node.node_id)
        if node.mode == BYPASSED:
            slots = child.slots_of_instance() if child else ordered_slots(node, self._declaration(node))
            index = _matching_input(slots, self._output_type(node, child, link.origin_slot), kind, link.origin_slot)
            return (Nothing(), kind) if index is None else ((scope, slots[index]), slots[index].type_name)
        if child is not None:
            inner = child.output_link(link.origin_slot)
            return (Nothing() if inner is None else (child, inner)), kind
        return self._pass(scope, node) or FromNode(scope.execution_id(node.node_id), link.origin_slot), kind

    def _pass(self, scope: Scope, node: GuiNode) -> _Place | Source | None:
        """Go on from a node of the page that only hands its input on; None if it is not such a one."""
        if self._declaration(node) is not None or node.type_name not in (GETTER, *REROUTES):
            return None
        if node.type_name == GETTER:
            scope, node = _find_setter(scope, node)
        return (scope, node.inputs[0]) if node.inputs else Nothing()

    def _declaration(self, node: GuiNode) -> Any:  # noqa: ANN401 - wire data
        return self._classes.declaration(node.type_name)

    def _output_type(self, node: GuiNode, child: Scope | None, slot: int) -> str:
        if child is None:
            node_class = self._classes.get(node.type_name)
            kinds = node_class.output_types if node_class is not None else ()
            if 0 <= slot < len(kinds):
                return kinds[slot] if isinstance(kinds[slot], str) else "COMBO"
        outputs = child.graph.outputs if child is not None else node.outputs
        return outputs[slot].type_name if 0 <= slot < len(outputs) else "*"


def primitive_value(scope: Scope, node: GuiNode) -> Source:
    """Return what a PrimitiveNode puts into the widgets that it is linked to."""
    values = node.values if isinstance(node.values, list) else []
    value = scope.inner_values.get((node.node_id, "value"), next(iter(values), None))
    return Nothing() if value is None else Fixed(value)


def _matching_input(slots: Sequence[Slot], given: str, wanted: str, slot: int) -> int | None:
    """Return the input whose value a bypassed node hands on: of the same place, else of the very type, else a fit."""
    if not slots:
        return None
    if wanted in ("*", ""):
        return slot if slot < len(slots) else 0

    def is_fit(kind: str) -> bool:
        return _connects(kind, given) and _connects(kind, wanted)

    if slot < len(slots) and is_fit(slots[slot].type_name):
        return slot
    for index, entry in enumerate(slots):
        if entry.type_name == wanted:
            return index
    return next((index for index, entry in enumerate(slots) if is_fit(entry.type_name)), None)


def _connects(one: str, other: str) -> bool:
    if "*" in (one, other):
        return True
    return bool({kind.strip().lower() for kind in one.split(",")} & {kind.strip().lower() for kind in other.split(",")})


def _find_setter(scope: Scope, getter: GuiNode) -> tuple[Scope, GuiNode]:
    """Return the SetNode whose name the GetNode has, in the same graph or in one around it."""
    name = getter.values[0] if isinstance(getter.values, list) and getter.values else None
    around: Scope | None = scope
    while around is not None:
        for node in around.graph.nodes.values():
            if node.type_name == SETTER and isinstance(node.values, list) and node.values[:1] == [name]:
                return around, node
        around = around.parent
    node_id = scope.execution_id(getter.node_id)
    message = f"node {clip(node_id)} (GetNode): no SetNode has its name, {quote(name)}"
    raise Unresolved(Problem(message=message, code="gui_no_setter", node_id=node_id, class_type=GETTER))


def _circle(scope: Scope, link: Link) -> Problem:
    node_id = scope.execution_id(link.origin_id)
    message = f"node {clip(node_id)}: its links lead back to itself through nodes that only hand values on"
    return Problem(message=message, code="gui_cycle", node_id=node_id)
