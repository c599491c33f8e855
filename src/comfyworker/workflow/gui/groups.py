"""Group nodes, the forerunners of subgraphs (`workflow>Name`), read as the subgraphs that they could have been.

Their definition lists nodes by position and says neither what goes in and out nor whose the values are; the page works
that out. Wire source: ComfyUI's frontend, `src/extensions/core/groupNode.ts` GroupNodeConfig.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from comfyworker.workflow.gui.document import INPUT_NODE, OUTPUT_NODE, GuiGraph, GuiNode, Link, Slot, read_node
from comfyworker.workflow.gui.widgets import Declared, declared_inputs, is_widget
from comfyworker.workflow.node_classes import NodeClasses

_NOBODY = ("", "")
"""Whose value a control's is."""


def group_graph(raw: Mapping[str, Any], classes: NodeClasses) -> GuiGraph | None:
    """Return a group's definition as a subgraph's; None if it is broken."""
    listed = raw.get("nodes")
    nodes = [
        read_node(entry, node_id=str(index)) for index, entry in enumerate(listed if isinstance(listed, list) else ())
    ]
    if not nodes or any(node is None for node in nodes):
        return None
    return _Group(raw, [node for node in nodes if node is not None], classes).build()


class _Group:
    """One definition while it is worked out."""

    def __init__(self, raw: Mapping[str, Any], nodes: Sequence[GuiNode], classes: NodeClasses) -> None:
        self.raw = raw
        self.nodes = {node.node_id: replace(node, inputs=_unlinked(node.inputs)) for node in nodes}
        self.classes = classes
        self.links: dict[str, Link] = {}
        self.inputs: list[Slot] = []
        self.outputs: list[Slot] = []
        self.owners: list[tuple[str, str]] = []
        self.seen: dict[str, int] = {}
        self.external = {
            (str(entry[0]), entry[1]) for entry in _lists(raw.get("external"), 2) if isinstance(entry[1], int)
        }

    def build(self) -> GuiGraph:
        self._link_within()
        within = {(link.target_id, link.target_slot) for link in self.links.values()}
        used = {(link.origin_id, link.origin_slot) for link in self.links.values()}
        converted: list[tuple[GuiNode, Declared]] = []
        for node in list(self.nodes.values()):
            for declared in self._declared(node, within, used):
                if not is_widget(declared, node.inputs) and declared.type_name != "BUTTON":
                    self._add_input(node, declared, within)
                elif any(slot.widget == declared.name for slot in node.inputs):
                    converted.append((node, declared))
                else:
                    self._name(node, declared.name)
                    self._own(node, declared)
            self._add_outputs(node, used)
        # Widgets that were made inputs come last, whichever node they are of.
        for node, declared in converted:
            if self._add_input(node, declared, within):
                self._own(node, declared)
        return GuiGraph(self.nodes, self.links, tuple(self.inputs), tuple(self.outputs), tuple(self.owners))

    def _link_within(self) -> None:
        for origin, origin_slot, target, target_slot in (entry[:4] for entry in _lists(self.raw.get("links"), 4)):
            node = self.nodes.get(str(target))
            if str(origin) in self.nodes and node is not None and isinstance(origin_slot, int):
                self._connect(str(origin), origin_slot, node, target_slot)

    def _connect(self, origin: str, origin_slot: int, node: GuiNode, slot: object) -> None:
        if not isinstance(slot, int) or not 0 <= slot < len(node.inputs):
            return
        link_id = str(len(self.links))
        self.links[link_id] = Link(link_id, origin, origin_slot, node.node_id, slot)
        inputs = list(node.inputs)
        inputs[slot] = replace(inputs[slot], link=link_id)
        self.nodes[node.node_id] = replace(node, inputs=tuple(inputs))

    def _declared(self, node: GuiNode, within: set[tuple[str, int]], used: set[tuple[str, int]]) -> Iterator[Declared]:
        """Yield a node's inputs in the order of its declaration; the page's own nodes have one."""
        declaration = self.classes.declaration(node.type_name)
        if declaration is not None:
            entries = declared_inputs({"input": declaration.get("input")})
            # Sockets are numbered after the widgets are named.
            yield from sorted(
                entries, key=lambda entry: not is_widget(entry, node.inputs) and entry.type_name != "BUTTON"
            )
        elif node.type_name == "PrimitiveNode" and (node.node_id, 0) in used:
            kind = node.outputs[0].type_name if node.outputs else "*"
            yield Declared(
                "value",
                kind,
                {"widgetType": "INT", "control_after_generate": kind in ("INT", "COMBO")},
                (),
                required=True,
            )
        elif node.type_name == "Reroute":
            is_internal = (node.node_id, 0) in within and (node.node_id, 0) in used
            if not is_internal or (node.node_id, 0) in self.external:
                kind = self._reroute_type(node)
                yield Declared(kind, kind, {"forceInput": True}, (), required=True)

    def _reroute_type(self, node: GuiNode) -> str:
        for link in self.links.values():
            if link.origin_id == node.node_id and link.target_id in self.nodes:
                return self.nodes[link.target_id].inputs[link.target_slot].type_name
        for link in self.links.values():
            if link.target_id == node.node_id and link.origin_id in self.nodes:
                outputs = self.nodes[link.origin_id].outputs
                return outputs[link.origin_slot].type_name if 0 <= link.origin_slot < len(outputs) else "*"
        return next(
            (str(entry[2]) for entry in _lists(self.raw.get("external"), 3) if str(entry[0]) == node.node_id), "*"
        )

    def _add_input(self, node: GuiNode, declared: Declared, within: set[tuple[str, int]]) -> bool:
        """Make an input of the group for an input that nothing within feeds; return whether it was made."""
        node = self.nodes[node.node_id]
        is_reroute = node.type_name == "Reroute"
        at = next((i for i, slot in enumerate(node.inputs) if is_reroute or slot.name == declared.name), None)
        if at is not None and (node.node_id, at) in within:
            return False
        name = self._name(node, declared.name)
        if self._config(node, "input", declared.name).get("visible") is False:
            return False
        if at is None:
            at = len(node.inputs)
            node = replace(node, inputs=(*node.inputs, Slot(declared.name, declared.type_name)))
        self._connect(INPUT_NODE, len(self.inputs), node, at)
        self.inputs.append(Slot(name, declared.type_name))
        return True

    def _add_outputs(self, node: GuiNode, used: set[tuple[str, int]]) -> None:
        for slot, output in enumerate(node.outputs):
            is_hidden = (node.node_id, slot) in used and (node.node_id, slot) not in self.external
            if not self._config(node, "output", str(slot)).get("visible", not is_hidden):
                continue
            link_id = str(len(self.links))
            self.links[link_id] = Link(link_id, node.node_id, slot, OUTPUT_NODE, len(self.outputs))
            self.outputs.append(output)

    def _own(self, node: GuiNode, declared: Declared) -> None:
        self.owners.append(_NOBODY if declared.type_name == "BUTTON" else (node.node_id, declared.name))
        if declared.has_control:
            self.owners += [_NOBODY] * (2 if declared.type_name == "COMBO" else 1)

    def _name(self, node: GuiNode, input_name: str) -> str:
        """Return what the page calls an input of the group; names that occur twice get the node's before them."""
        given = self._config(node, "input", input_name).get("name")
        name = key = str(given or input_name)
        if name in self.seen or (node.type_name == "PrimitiveNode" and node.title):
            prefix = f"{node.title or node.type_name} "
            name = key = f"{prefix}{input_name}"
            if name in self.seen:
                name = f"{prefix}{self.seen[name]} {input_name}"
        self.seen[key] = self.seen.get(key, 1) + 1
        return name

    def _config(self, node: GuiNode, side: str, name: str) -> Mapping[str, Any]:
        found: Any = self.raw.get("config")  # Any: JSON values
        for key in (node.node_id, side, name):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def _unlinked(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    return tuple(replace(slot, link=None) for slot in slots)


def _lists(raw: object, length: int) -> list[list[Any]]:
    return [entry for entry in raw if isinstance(entry, list) and len(entry) >= length] if isinstance(raw, list) else []
