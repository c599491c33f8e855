"""GUI format → API format, as ComfyUI's page does it before it queues a workflow.

ComfyUI itself converts nothing; the rules are its frontend's, `src/utils/executionUtil.ts` graphToPrompt. What the page
does only at the moment of queueing is left out: drawing new seeds, choosing from `{a|b}`, filling in `%date:…%`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyworker.errors import MissingNode, Problem, WorkflowFormatUI
from comfyworker.jobs import Graph
from comfyworker.wording import clip, nearest, summary
from comfyworker.workflow.gui.document import GuiNode, read_document
from comfyworker.workflow.gui.links import (
    GETTER,
    PRIMITIVE,
    REROUTES,
    Fixed,
    FromNode,
    LinkResolver,
    Unresolved,
)
from comfyworker.workflow.gui.scopes import Scope, active_nodes, open_scopes
from comfyworker.workflow.gui.widgets import CONTROLS, widget_values
from comfyworker.workflow.metadata import CORE, ListedModel, ListedPack, listed_models, listed_pack
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.node_classes import NodeClasses

_PAGE_ONLY = frozenset(
    {
        "Note", "MarkdownNote", PRIMITIVE, GETTER, *REROUTES,
        "Fast Bypasser (rgthree)", "Fast Muter (rgthree)", "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)", "Fast Actions Button (rgthree)", "Mute / Bypass Repeater (rgthree)",
        "Mute / Bypass Relay (rgthree)", "Random Unmuter (rgthree)", "Bookmark (rgthree)", "Label (rgthree)",
    }
)  # fmt: skip
"""Nodes that the page has and ComfyUI has not."""
_MAX_SUGGESTIONS = 50
_EXPORT_HINT = "Mend it in ComfyUI, or export the workflow with 'Export (API)' there."


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a workflow in GUI format."""

    graph: Graph
    """The nodes that could be converted; those of unknown classes hold what can be told without their class."""
    problems: tuple[Problem, ...]
    """What could not be converted."""
    listed_models: tuple[ListedModel, ...]
    packs: Mapping[str, str]
    """Class → custom node pack that the file says it is from (a Comfy Registry id, else a GitHub repository)."""
    listed_packs: tuple[ListedPack, ...] = ()
    """The same with all that the file says, ComfyUI's own classes included; once for each class and version."""


def convert_gui(value: Mapping[str, Any], classes: NodeClasses, *, path: str = "workflow") -> Graph:
    """Return the workflow in API format, as ComfyUI's page would queue it.

    Muted nodes are left out, with the links to them; bypassed ones hand on their inputs. Nodes of a subgraph have the
    ids of its instances before their own, as `57:8`.

    Args:
        value: What the page saved; it is left as it was.
        classes: What ComfyUI has: the file holds widget values without names.
        path: What the problems' paths begin with.

    Raises:
        MissingNode: this ComfyUI lacks classes that the workflow uses; each is named.
        WorkflowFormatUI: anything else that keeps it from being converted.
    """
    done = convert_what_can_be(value, classes, path=path)
    if not done.problems:
        return done.graph
    message = summary(done.problems)
    if all(problem.code == "missing_node" for problem in done.problems):
        hint = "Install the custom nodes that bring these classes, or update ComfyUI. Their inputs' names are needed."
        raise MissingNode(message, hint=hint, problems=done.problems)
    raise WorkflowFormatUI(message, hint=_EXPORT_HINT, problems=done.problems)


def convert_what_can_be(value: Mapping[str, Any], classes: NodeClasses, *, path: str = "workflow") -> Conversion:
    """Return what of the workflow can be converted, and what cannot.

    Raises:
        WorkflowFormatUI: nothing can be said of it: nodes are not of the right shape.
    """
    root, problems = open_scopes(read_document(value, path=path), classes)
    if problems:
        return Conversion({}, tuple(problems), (), {})
    return _Converter(classes, path).convert(root)


class _Converter:
    """One conversion."""

    def __init__(self, classes: NodeClasses, path: str) -> None:
        self.classes = classes
        self.path = path
        self.links = LinkResolver(classes)
        self.problems: list[Problem] = []
        self.listed: list[ListedModel] = []
        self.packs: dict[str, str] = {}
        self.listed_packs: dict[ListedPack, None] = {}

    def convert(self, root: Scope) -> Conversion:
        graph: Graph = {}
        for scope, node in active_nodes(root):
            if self._is_page_only(scope, node):
                continue
            node_id = scope.execution_id(node.node_id)
            declaration = self.classes.declaration(node.type_name)
            if declaration is None:
                self.problems.append(self._unknown(node_id, node))
                values = _guessed_values(node)
            else:
                values = widget_values(node, declaration)
            self._note_metadata(node_id, node)
            values |= {name: value for (inner, name), value in scope.inner_values.items() if inner == node.node_id}
            graph[node_id] = {
                "class_type": node.type_name,
                "inputs": self._inputs(scope, node, values),
                "_meta": {"title": node.title or self._display_name(node)},
            }
        if not graph and not self.problems:
            message = f"{self.path} has nothing to run: its nodes are notes, muted or bypassed"
            self.problems.append(Problem(message=message, code="no_outputs", path=self.path))
        return Conversion(graph, tuple(self.problems), tuple(self.listed), self.packs, tuple(self.listed_packs))

    def _inputs(self, scope: Scope, node: GuiNode, values: dict[str, Any]) -> dict[str, Any]:
        inputs = {name: _as_literal(value) for name, value in values.items()}
        for slot in node.inputs:
            if slot.link is None:
                continue
            try:
                source = self.links.resolve(scope, slot)
            except Unresolved as error:
                self.problems.append(error.problem)
                continue
            if isinstance(source, FromNode):
                inputs[slot.name] = [source.node_id, source.slot]
            elif isinstance(source, Fixed):
                inputs[slot.name] = _as_literal(source.value)
            elif source.is_cut:
                inputs.pop(slot.name, None)
        return inputs

    def _is_page_only(self, scope: Scope, node: GuiNode) -> bool:
        """Tell whether a node is none of ComfyUI's: a note, or something unknown that nothing is linked to."""
        if node.type_name in self.classes:
            return False
        return node.type_name in _PAGE_ONLY or node.node_id not in scope.linked

    def _unknown(self, node_id: str, node: GuiNode) -> Problem:
        # Looking for a likeness takes a millisecond or two, and a file may hold thousands of nodes.
        close = nearest(node.type_name, self.classes if len(self.problems) < _MAX_SUGGESTIONS else ())
        what = "a group node whose definition the file lacks" if _is_group(node) else "this ComfyUI has no such class"
        return Problem(
            message=f"node {clip(node_id)} ({clip(node.type_name)}): {what}",
            code="missing_node",
            path=f"{self.path}.{node_id}",
            node_id=node_id,
            class_type=node.type_name,
            received=clip(node.type_name),
            choices=close.close,
            suggestion=close.suggestion,
        )

    def _display_name(self, node: GuiNode) -> str:
        node_class = self.classes.get(node.type_name)
        return node_class.display_name if node_class is not None else node.type_name

    def _note_metadata(self, node_id: str, node: GuiNode) -> None:
        pack = listed_pack(node.type_name, node.properties)
        if pack is not None:
            self.listed_packs[pack] = None
            if pack.registry_id != CORE:
                self.packs.setdefault(node.type_name, pack.registry_id or pack.repository or "")
        self.listed.extend(listed_models(node.properties.get("models"), node_id))


def _is_group(node: GuiNode) -> bool:
    return node.type_name.startswith(("workflow>", "workflow/"))


def _guessed_values(node: GuiNode) -> dict[str, Any]:
    """Return what a node of an unknown class holds: by name where that was saved, else the model files."""
    if isinstance(node.values, Mapping):
        return {str(name): value for name, value in node.values.items()}
    values = node.values or []
    names = [slot.widget for slot in node.inputs if slot.widget]
    for held in (values, [value for value in values if not (isinstance(value, str) and value in CONTROLS)]):
        if len(names) == len(held):
            return {str(name): value for name, value in zip(names, held, strict=True) if value is not None}
    return {f"widgets_values.{index}": value for index, value in enumerate(values) if is_model_name(value)}


def _as_literal(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value as the API takes it: a bare list would be taken for a link."""
    return {"__value__": value} if isinstance(value, list) else value
