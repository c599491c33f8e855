"""A workflow in GUI format as typed records, read with care: anybody may have written the file.

Wire source: ComfyUI's frontend, `src/platform/workflow/validation/schemas/workflowSchema.ts`, versions 0.4 (links are
lists) and 1.0 (links are objects, as they are in every subgraph).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from comfyworker.errors import Problem, WorkflowFormatUI
from comfyworker.wording import clip, summary

MUTED = 2
BYPASSED = 4
INPUT_NODE = "-10"
"""The node that stands for a subgraph's inputs within it."""
OUTPUT_NODE = "-20"

Values = list[Any] | Mapping[str, Any] | None  # Any: JSON values


@dataclass(frozen=True, slots=True)
class Slot:
    """One input or output of a node."""

    name: str
    type_name: str
    link: str | None = None
    """The id of the link that comes in; None if there is none, and for outputs."""
    widget: str | None = None
    """The name of the widget that the input stands beside."""


@dataclass(frozen=True, slots=True)
class Link:
    """A line from an output to an input."""

    link_id: str
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class GuiNode:
    """One node as it was saved."""

    node_id: str
    type_name: str
    """A node class, the id of a subgraph, or something that only the page knows, as `Note`."""
    mode: int
    title: str | None
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: Values
    """What its widgets held: by position, by name, or nothing."""
    properties: Mapping[str, Any]  # Any: JSON values


@dataclass(frozen=True, slots=True)
class GuiGraph:
    """Nodes and links: the workflow's own, or a subgraph's."""

    nodes: Mapping[str, GuiNode]
    links: Mapping[str, Link]
    inputs: tuple[Slot, ...] = ()
    """What a subgraph takes."""
    outputs: tuple[Slot, ...] = ()
    owners: tuple[tuple[str, str], ...] = ()
    """For a group node: inner node and widget of each value that its instances hold."""


@dataclass(frozen=True, slots=True)
class GuiWorkflow:
    """A whole file."""

    root: GuiGraph
    subgraphs: Mapping[str, GuiGraph]
    """By id."""
    groups: Mapping[str, Mapping[str, Any]]  # Any: JSON values
    """Definitions of group nodes as they were saved, by the type that their instances have."""


def is_gui_format(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether `value` is a workflow as ComfyUI's page saves it."""
    return isinstance(value, Mapping) and isinstance(value.get("nodes"), list)


def read_document(value: Mapping[str, Any], *, path: str) -> GuiWorkflow:
    """Return the workflow that `value` holds.

    Raises:
        WorkflowFormatUI: with every node that is not of the right shape.
    """
    problems: list[Problem] = []
    root = _read_graph(value, path, problems)
    definitions = _mapping(value.get("definitions")).get("subgraphs")
    subgraphs = {
        str(entry["id"]): _read_graph(entry, f"{path}.definitions.subgraphs[{index}]", problems)
        for index, entry in enumerate(_list(definitions))
        if isinstance(entry, Mapping) and "id" in entry
    }
    if problems:
        hint = "Save the workflow again in ComfyUI, or export it with 'Export (API)'."
        raise WorkflowFormatUI(summary(problems), hint=hint, problems=problems)
    groups = _mapping(_mapping(value.get("extra")).get("groupNodes"))
    prefixes = ("workflow>", "workflow/")  # the older separator still occurs
    return GuiWorkflow(root, subgraphs, {f"{p}{n}": _mapping(group) for n, group in groups.items() for p in prefixes})


def _read_graph(value: Mapping[str, Any], path: str, problems: list[Problem]) -> GuiGraph:
    nodes = {}
    for index, raw in enumerate(_list(value.get("nodes"))):
        node = read_node(raw)
        if node is not None:
            nodes[node.node_id] = node
        else:
            where = f"{path}.nodes[{index}]"
            message = f"{clip(where)}: is no node: an object with an id and a type is needed"
            problems.append(Problem(message=message, code="invalid_node", path=where))
    links = (read_link(raw) for raw in _list(value.get("links")))
    return GuiGraph(
        nodes=nodes,
        links={link.link_id: link for link in links if link is not None},
        inputs=_read_slots(value.get("inputs")),
        outputs=_read_slots(value.get("outputs")),
    )


def read_node(raw: object, *, node_id: str | None = None) -> GuiNode | None:
    """Return one node, under `node_id` if that is given; None if it is none."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
        return None
    if node_id is None and not _is_id(raw.get("id")):
        return None
    mode, title, values = raw.get("mode"), raw.get("title"), raw.get("widgets_values")
    return GuiNode(
        node_id=str(raw["id"]) if node_id is None else node_id,
        type_name=raw["type"],
        mode=mode if isinstance(mode, int) else 0,
        title=title if isinstance(title, str) and title else None,
        inputs=_read_slots(raw.get("inputs")),
        outputs=_read_slots(raw.get("outputs")),
        values=values if isinstance(values, list | Mapping) else None,
        properties=_mapping(raw.get("properties")),
    )


def read_link(raw: object) -> Link | None:
    """Return one link, from a list or an object; None if it is none."""
    if isinstance(raw, Mapping):
        raw = [raw.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    if not isinstance(raw, list) or len(raw) < 5:
        return None
    link_id, origin_id, origin_slot, target_id, target_slot = raw[:5]
    if not (_is_id(link_id) and _is_id(origin_id) and _is_id(target_id)):
        return None
    if not (isinstance(origin_slot, int) and isinstance(target_slot, int)):
        return None
    return Link(str(link_id), str(origin_id), origin_slot, str(target_id), target_slot)


def proxies(node: GuiNode) -> list[tuple[str, str]]:
    """Return the widgets that an instance of a subgraph shows: inner node (`-1`: one of its inputs) and name."""
    raw = node.properties.get("proxyWidgets")
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raw = None
    # One that is not understood keeps its place: values are matched by position.
    return [
        (str(entry[0]), str(entry[1])) if isinstance(entry, list) and len(entry) >= 2 else ("", "")
        for entry in _list(raw)
    ]


def _read_slots(raw: object) -> tuple[Slot, ...]:
    return tuple(_read_slot(entry) for entry in _list(raw))


def _read_slot(raw: object) -> Slot:
    entry = _mapping(raw)
    kind, link, widget = entry.get("type"), entry.get("link"), _mapping(entry.get("widget")).get("name")
    # Old files hold a combo's choices in the place of its type.
    type_name = "COMBO" if isinstance(kind, list) else "*" if kind in (None, 0, "", -1) else str(kind)
    return Slot(
        name=str(entry.get("name", "")),
        type_name=type_name,
        link=str(link) if _is_id(link) else None,
        widget=widget if isinstance(widget, str) else None,
    )


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
