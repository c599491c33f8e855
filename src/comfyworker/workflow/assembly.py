"""Put together the workflow that a request asks for: modifier, then overrides, then shortcuts, then random integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import JsonValue

from comfyworker.errors import InvalidRequest, InvalidWorkflow, Problem, WorkerError
from comfyworker.jobs import Graph, JobRequest, Shortcuts
from comfyworker.wording import summary
from comfyworker.workflow.modifiers import FALLBACK, Modifier, Modifiers, apply_modifier, as_shortcuts
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.overrides import apply_overrides
from comfyworker.workflow.placeholders import draw_placeholders
from comfyworker.workflow.shortcuts import apply_shortcuts

_T = TypeVar("_T")


@dataclass(frozen=True)
class Assembled:
    """The workflow of a request, and how it came to be."""

    graph: Graph
    used: dict[str, JsonValue] = field(default_factory=dict)
    """What was drawn or chosen: `{"seed": 17}` for a shortcut or parameter, else `{"<node>.<input>": 17}`."""
    warnings: tuple[str, ...] = ()


def assemble(request: JobRequest, classes: NodeClasses, modifiers: Modifiers, *, draw: Callable[[], int]) -> Assembled:
    """Return the workflow that `request` asks for.

    A request that brings nothing but a workflow gets that same graph, not a copy.

    Args:
        request: The job; it is left as it was.
        classes: What ComfyUI has.
        modifiers: What the worker knows.
        draw: Gives a random integer from 0 to 2³² - 1.

    Raises:
        InvalidRequest: with everything that is wrong with the modifier's parameters, and the rest beside it.
        InvalidWorkflow: with every override and shortcut that does not fit.
        MissingNode: a workflow in GUI format uses classes that this ComfyUI lacks.
        WorkflowFormatUI: it cannot be converted for another reason.
    """
    making = _Making(classes, draw)
    making.begin(request, modifiers)
    if request.overrides:
        making.override(request)
    if request.shortcuts is not None:
        making.set_shortcuts(request.shortcuts)
    making.refuse()
    graph, drawn = draw_placeholders(making.graph, classes, draw)
    return Assembled(graph, {**making.used, **drawn})


class _Making:
    """One workflow being put together; what is wrong is gathered over all steps."""

    def __init__(self, classes: NodeClasses, draw: Callable[[], int]) -> None:
        self.graph: Graph = {}
        self.used: dict[str, JsonValue] = {}
        self._classes = classes
        self._draw = draw
        self._errors: list[WorkerError] = []

    def begin(self, request: JobRequest, modifiers: Modifiers) -> None:
        """Take the workflow, or make the modifier's."""
        own = request.workflow
        if own is None and request.gui_workflow is not None:
            from comfyworker.workflow.gui import convert_gui  # noqa: PLC0415  # few requests bring one

            own = convert_gui(request.gui_workflow, self._classes)
        if request.modifier is None:
            if own is None:
                raise InvalidRequest(
                    "the request brings no workflow and names no modifier", hint="Send one of the two."
                )
            self.graph = own
            return
        modifier = modifiers.named(request.modifier)
        if modifier.workflow is None:
            self._begin_raw(modifier, own or modifiers.default_workflow, request, modifiers)
        elif own is not None:
            raise InvalidRequest(
                f"the modifier {modifier.name} has a workflow of its own, so the request may not bring one",
                hint="Send either the workflow or the modifier; RawWorkflow takes both.",
            )
        else:
            self._apply(modifier, request.modifications)

    def _begin_raw(self, modifier: Modifier, graph: Graph | None, request: JobRequest, modifiers: Modifiers) -> None:
        fallback = modifiers.known.get(FALLBACK)
        shortcuts = self._keep(lambda: as_shortcuts(modifier, request.modifications))
        if graph is not None:
            self.graph = graph
            if shortcuts is not None:
                self.set_shortcuts(shortcuts, prefix="modifications.")
        elif fallback is None:
            raise InvalidRequest(
                "the request brings no workflow, and this worker has no default one",
                hint="Send a workflow, or name a file with one in DEFAULT_WORKFLOW.",
            )
        elif shortcuts is not None:
            self._apply(fallback, request.modifications)

    def _apply(self, modifier: Modifier, modifications: Mapping[str, JsonValue]) -> None:
        self.graph = modifier.workflow or {}
        made = self._keep(lambda: apply_modifier(modifier, modifications, self._classes, self._draw))
        if made is not None:
            self.graph, self.used = made

    def override(self, request: JobRequest) -> None:
        """Apply the request's overrides."""
        changed = self._keep(lambda: apply_overrides(self.graph, request.overrides, self._classes))
        if changed is not None:
            self.graph = changed

    def set_shortcuts(self, shortcuts: Shortcuts, *, prefix: str = "") -> None:
        """Apply shortcuts."""
        changed = self._keep(lambda: apply_shortcuts(self.graph, shortcuts, self._classes, self._draw, prefix=prefix))
        if changed is not None:
            self.graph, used = changed
            self.used = {**self.used, **used}

    def refuse(self) -> None:
        """Raise one error for all that was wrong, if anything was."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            problems: list[Problem] = [problem for error in self._errors for problem in error.problems]
            kind = (
                InvalidRequest if any(isinstance(error, InvalidRequest) for error in self._errors) else InvalidWorkflow
            )
            raise kind(summary(problems), hint=self._errors[0].hint, problems=problems)

    def _keep(self, step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except (InvalidRequest, InvalidWorkflow) as error:
            self._errors.append(error)
            return None
