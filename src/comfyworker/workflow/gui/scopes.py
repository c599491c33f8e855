"""Each place in which nodes of a workflow stand: the workflow itself, and each instance of a subgraph in it.

Wire source: ComfyUI's frontend, `src/lib/litegraph/src/subgraph/SubgraphNode.ts` and
`src/core/graph/subgraph/proxyWidget.ts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfyworker.errors import Problem
from comfyworker.wording import clip, quote
from comfyworker.workflow.gui.document import (
    BYPASSED,
    INPUT_NODE,
    MUTED,
    OUTPUT_NODE,
    GuiGraph,
    GuiNode,
    GuiWorkflow,
    Link,
    Slot,
    proxies,
)
from comfyworker.workflow.gui.groups import group_graph
from comfyworker.workflow.gui.widgets import declared_inputs, fits, is_widget
from comfyworker.workflow.node_classes import NodeClasses

_MAX_DEPTH = 50
"""Nobody nests so deep by hand; a subgraph that holds itself does."""
_MAX_SCOPES = 5000
"""Instances within instances multiply; a file of some lines must not fill the memory."""


class Scope:
    """The inside of one instance of a subgraph, or the workflow itself."""

    def __init__(self, graph: GuiGraph, *, parent: Scope | None = None, instance: GuiNode | None = None) -> None:
        self.graph = graph
        self.parent = parent
        self.instance = instance
        self.path: tuple[str, ...] = (*parent.path, instance.node_id) if parent and instance else ()
        self.siblings: list[Scope] = parent.siblings if parent else []
        """All scopes of the workflow but its own."""
        self.children: dict[str, Scope] = {}
        self.linked = frozenset(end for link in graph.links.values() for end in (link.origin_id, link.target_id))
        """The nodes that a link begins or ends at."""
        self.host_values: dict[str, Any] = {}
        """What the instance says for the widgets that its inputs stand for, by input name."""
        self.inner_values: dict[tuple[str, str], Any] = {}
        """What the instance says for widgets of nodes within: (inner node, widget) → value."""

    def execution_id(self, node_id: str) -> str:
        """Return the id that the node has in API format."""
        return ":".join((*self.path, node_id))

    def instance_input(self, slot: int) -> Slot | None:
        """Return the instance's own input that a subgraph's input stands for; None if it was saved without one."""
        if self.instance is None or not 0 <= slot < len(self.graph.inputs):
            return None
        name = self.graph.inputs[slot].name
        return next((entry for entry in self.instance.inputs if entry.name == name), None)

    def output_link(self, slot: int) -> Link | None:
        """Return the link within that leads to one of the subgraph's outputs."""
        for link in self.graph.links.values():
            if link.target_id == OUTPUT_NODE and link.target_slot == slot:
                return link
        return None

    def slots_of_instance(self) -> list[Slot]:
        """Return the instance's inputs in the order of the subgraph's."""
        slots = [self.instance_input(index) for index in range(len(self.graph.inputs))]
        return [
            Slot(inner.name, inner.type_name, outer.link if outer else None)
            for inner, outer in zip(self.graph.inputs, slots, strict=True)
        ]


def open_scopes(workflow: GuiWorkflow, classes: NodeClasses) -> tuple[Scope, list[Problem]]:
    """Return the workflow's own scope with all others below it, and what keeps instances from being opened."""
    problems: list[Problem] = []
    root = Scope(workflow.root)
    groups = {name: graph for name, raw in workflow.groups.items() if (graph := group_graph(raw, classes)) is not None}
    _open_children(root, {**workflow.subgraphs, **groups}, classes, problems)
    return root, problems


def active_nodes(scope: Scope) -> Iterator[tuple[Scope, GuiNode]]:
    """Yield the nodes that are neither muted nor bypassed, those within instances in the instance's place."""
    for node in scope.graph.nodes.values():
        if node.mode in (MUTED, BYPASSED):
            continue
        child = scope.children.get(node.node_id)
        if child is None:
            yield scope, node
        else:
            yield from active_nodes(child)


def _open_children(scope: Scope, graphs: Mapping[str, GuiGraph], classes: NodeClasses, problems: list[Problem]) -> None:
    for node in scope.graph.nodes.values():
        graph = graphs.get(node.type_name)
        if graph is None:
            continue
        if len(scope.path) >= _MAX_DEPTH or len(scope.siblings) >= _MAX_SCOPES:
            what = "holds itself" if len(scope.path) >= _MAX_DEPTH else f"is one of more than {_MAX_SCOPES}"
            message = f"node {clip(scope.execution_id(node.node_id))}: subgraph {quote(node.type_name)} {what}"
            problems.append(Problem(message=message, code="gui_cycle", node_id=node.node_id))
            return
        child = scope.children[node.node_id] = Scope(graph, parent=scope, instance=node)
        scope.siblings.append(child)
        _open_children(child, graphs, classes, problems)
        if problems:
            return
        _read_values(child, classes)


def _read_values(scope: Scope, classes: NodeClasses) -> None:
    """Read what an instance says for widgets within it, which is more than what the inner nodes say."""
    node = scope.instance
    values = list(node.values) if node is not None and isinstance(node.values, list) else []
    if node is None or not values:
        return
    if scope.graph.owners:
        # A primitive's value has no declaration that could say whether it fits.
        scope.inner_values = {
            (owner, name): value
            for (owner, name), value in zip(scope.graph.owners, values, strict=False)
            if value is not None and (name == "value" or _fits_widget(scope, owner, name, value, classes))
        }
        return
    shown = proxies(node)
    if len(shown) >= len(values) or any(owner == "-1" for owner, _ in shown):
        _take_named(scope, shown, values, classes)
        return
    # Without names the values are those of the inputs with a widget, in their order; one that does not fit shows that
    # the order has got lost, and then what is within is the better guess for all.
    names = [scope.graph.inputs[index].name for index in _promoted(scope, classes)]
    held = [(name, value) for name, value in zip(names, values, strict=False) if value is not None]
    if all(_fits_input(scope, name, value, classes) is not False for name, value in held):
        scope.host_values = dict(held)


def _take_named(scope: Scope, shown: list[tuple[str, str]], values: list[Any], classes: NodeClasses) -> None:
    for (owner, name), value in zip(shown, values, strict=False):
        if value is None:
            continue
        if owner == "-1" and _fits_input(scope, name, value, classes):
            scope.host_values[name] = value
        elif owner != "-1" and _fits_widget(scope, owner, name, value, classes):
            scope.inner_values[owner, name] = value


def _fits_input(
    scope: Scope,
    name: str,
    value: Any,  # noqa: ANN401 - any JSON value
    classes: NodeClasses,
) -> bool | None:
    """Tell whether a value fits one of the widgets behind an input; None if nothing is known of them."""
    specs = [_widget_spec(scope, node_id, widget, classes) for node_id, widget in _targets(scope, name)]
    known = [spec for spec in specs if spec is not None]
    return any(fits(value, spec) for spec in known) if known else None


def _promoted(scope: Scope, classes: NodeClasses) -> list[int]:
    """Return the subgraph's inputs that stand for a widget, by its class or, if that has changed, by the file."""
    return [
        index
        for index, slot in enumerate(scope.graph.inputs)
        if any(
            _widget_spec(scope, node_id, name, classes) or _was_widget(scope.graph.nodes[node_id], name)
            for node_id, name in _targets(scope, slot.name)
        )
    ]


def _was_widget(node: GuiNode, name: str) -> bool:
    return any(slot.name == name and slot.widget is not None for slot in node.inputs)


def _targets(scope: Scope, input_name: str) -> list[tuple[str, str]]:
    """Return inner node and input name of everything that one of the subgraph's inputs leads to."""
    index = next((i for i, slot in enumerate(scope.graph.inputs) if slot.name == input_name), None)
    links = {link.link_id for link in scope.graph.links.values() if link.origin_id == INPUT_NODE}
    links = {link_id for link_id in links if scope.graph.links[link_id].origin_slot == index}
    return [
        (node.node_id, slot.name) for node in scope.graph.nodes.values() for slot in node.inputs if slot.link in links
    ]


def _fits_widget(
    scope: Scope,
    node_id: str,
    name: str,
    value: Any,  # noqa: ANN401 - any JSON value
    classes: NodeClasses,
) -> bool:
    spec = _widget_spec(scope, node_id, name, classes)
    return spec is not None and fits(value, spec)


def _widget_spec(scope: Scope, node_id: str, name: str, classes: NodeClasses) -> Any:  # noqa: ANN401
    """Return the declaration of a widget within, however deep it stands; None if it is none."""
    while (child := scope.children.get(node_id)) is not None:
        targets = [target for target in _targets(child, name) if target[0] in child.graph.nodes]
        if not targets:
            return None
        scope, (node_id, name) = child, targets[0]
    node = scope.graph.nodes.get(node_id)
    declaration = classes.declaration(node.type_name) if node is not None else None
    if node is None or declaration is None:
        return None
    for entry in declared_inputs(declaration):
        if entry.name == name:
            return entry if is_widget(entry, node.inputs) else None
    return None
