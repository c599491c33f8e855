"""Modifiers: workflows with named parameters, described by data.

A modifier file is one JSON object: `{"name", "description", "workflow", "parameters": {name: {"type", "default",
"minimum", "maximum", "choices", "description", "targets": ["node.field", …], "required"}}}`. Without a workflow it is
set on the one that the request brings, and its parameters are the shortcuts of their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from comfyworker.errors import InvalidRequest, InvalidWorkflow, Problem, WorkerError
from comfyworker.jobs import RANDOM_INT, Graph, Override, Shortcuts
from comfyworker.wording import LISTED_CHOICES, clip, listing, nearest, quote, received, summary
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.node_classes import InputSpec, NodeClasses
from comfyworker.workflow.overrides import apply_overrides, placed_at, refused_value
from comfyworker.workflow.placeholders import draw_within

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_DRAWN_SEED = -1
FALLBACK = "Text2Image"
"""The modifier whose workflow runs where there is no other."""
_SHORTCUTS = tuple(name for name in Shortcuts.model_fields)


class Parameter(BaseModel):
    """One thing that may be set on a modifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["string", "integer", "number", "boolean"]
    default: str | int | float | bool | None = None
    """What it is if the request does not say; None leaves the workflow's own value. `__RANDOM_INT__` draws one."""
    # A seed's bound is no float: 2⁶⁴ - 1 would be rounded up.
    minimum: int | float | None = None  # for pydantic the two differ
    maximum: int | float | None = None
    choices: tuple[str | int | float, ...] | None = None
    description: str = ""
    targets: tuple[str, ...] = ()
    """The inputs that get it: `node.field`."""
    required: bool = False

    def problem(self, value: object) -> tuple[str, str] | None:
        """Return code and words for what is wrong with a value; None if it fits."""
        if value == RANDOM_INT and self.type in {"integer", "number"}:
            return None
        if not isinstance(value, _TYPES[self.type]) or (isinstance(value, bool) and self.type != "boolean"):
            article = "an" if self.type == "integer" else "a"
            return "wrong_type", f"must be {article} {self.type}, it is {quote(value)}"
        if isinstance(value, int | float) and self.type != "boolean" and not self._is_within(value):
            return "value_out_of_range", f"{quote(value)} is not {self.bounds}"
        if self.choices is not None and value not in self.choices:
            return "value_not_in_list", f"{quote(value)} is not offered"
        return None

    @property
    def bounds(self) -> str:
        """What numbers are allowed, in words."""
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum} to {self.maximum}"
        return f"at least {self.minimum}" if self.minimum is not None else f"at most {self.maximum}"

    def _is_within(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return low <= value <= high


class Modifier(BaseModel):
    """A workflow and what may be set on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=128)
    description: str = ""
    workflow: Graph | None = None
    """None takes the workflow of the request."""
    parameters: dict[str, Parameter] = Field(default_factory=dict)


@dataclass(frozen=True)
class Modifiers:
    """The modifiers that a worker knows, and the workflow for requests that bring none."""

    known: Mapping[str, Modifier] = field(default_factory=dict)
    default_workflow: Graph | None = None
    """What a modifier without a workflow is set on, if the request brings none; None takes Text2Image's."""

    def named(self, name: str) -> Modifier:
        """Return the modifier that a request names.

        Raises:
            InvalidRequest: there is none; with the nearest name and all names.
        """
        modifier = self.known.get(name)
        if modifier is None:
            near = nearest(name, self.known)
            what = f"modifier: there is no modifier {quote(name)}"
            what += f"; did you mean {quote(near.suggestion)}?" if near.suggestion else "." if self.known else ""
            what += f" There are: {', '.join(self.known)}" if self.known else "; this worker has none"
            raise _refused([_problem("modifier", what, "unknown_modifier", name, self.known)])
        return modifier


def read_modifier(value: object, *, path: str) -> Modifier:
    """Return the modifier that a file's JSON describes.

    Args:
        value: The parsed JSON.
        path: What the problems' paths begin with: the file's name.

    Raises:
        InvalidRequest: with every mistake in it.
    """
    try:
        modifier = Modifier.model_validate(value)
    except ValidationError as error:
        raise _refused([_shape_problem(path, item["loc"], item["msg"]) for item in error.errors()]) from error
    problems = list[Problem]()
    graph: Graph | None = None
    if modifier.workflow is not None:
        try:
            graph = read_workflow(modifier.workflow, path=f"{path}.workflow")
        except InvalidWorkflow as error:
            problems.extend(error.problems)
    for name, parameter in modifier.parameters.items():
        place = f"{path}.parameters.{clip(name)}"
        problems.extend(_parameter_problems(place, name, parameter, graph, has_workflow=modifier.workflow is not None))
    if problems:
        raise _refused(problems)
    # As it was read: nodes have inputs, and what wrapped the graph is gone.
    return modifier.model_copy(update={"workflow": graph})


def apply_modifier(
    modifier: Modifier, modifications: Mapping[str, JsonValue], classes: NodeClasses, draw: Callable[[], int]
) -> tuple[Graph, dict[str, JsonValue]]:
    """Return the modifier's workflow with the parameters set, and what was drawn or chosen for it.

    A parameter that names a model or other file, is not given, and whose default ComfyUI does not have, takes the only
    one that it has.

    Args:
        modifier: One with a workflow.
        modifications: The request's parameters.
        classes: What ComfyUI has.
        draw: Gives a random integer from 0 to 2³² - 1.

    Raises:
        InvalidRequest: with every parameter that is unknown, missing, of the wrong type, or refused by ComfyUI.
    """
    values, problems = _read(modifier, modifications)
    used: dict[str, JsonValue] = {}
    writes: list[tuple[str, Override]] = []
    graph = modifier.workflow or {}
    for name, value in values.items():
        parameter = modifier.parameters[name]
        targets = [_target(text, graph) for text in parameter.targets]
        chosen = _settled(name, value, parameter, draw)
        if name not in modifications:
            chosen = _only_choice(chosen, [_spec(graph, classes, *target) for target in targets])
        if chosen != value:
            used[name] = chosen
        writes += [(name, Override(node_id=node_id, field=key, value=chosen)) for node_id, key in targets]
    labels = [f"modifications.{name}" for name, _ in writes]
    changed = apply_overrides(graph, [override for _, override in writes], labels=labels)
    for label, (name, override) in zip(labels, writes, strict=True):
        problem = refused_value(changed, classes, str(override.node_id), override.field)
        if problem is not None and name in modifications:
            problems.append(placed_at(label, problem))
    if problems:
        raise _refused(problems)
    return changed, used


def as_shortcuts(modifier: Modifier, modifications: Mapping[str, JsonValue]) -> Shortcuts:
    """Return what the parameters of a modifier without a workflow set.

    Raises:
        InvalidRequest: with every parameter that is unknown, missing, of the wrong type or out of bounds.
    """
    values, problems = _read(modifier, modifications)
    if problems:
        raise _refused(problems)
    try:
        return Shortcuts.model_validate(values)
    except ValidationError as error:
        raise _refused(
            [_shape_problem("modifications", item["loc"], item["msg"], "wrong_type") for item in error.errors()]
        ) from error


def _read(modifier: Modifier, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[Problem]]:
    """Return the values of all parameters that have one, and what is wrong with those that were given."""
    names, problems, values = tuple(modifier.parameters), list[Problem](), dict[str, JsonValue]()
    for name in given:
        if name not in modifier.parameters:
            near = nearest(name, names)
            what = f"modifications: {modifier.name} has no parameter {quote(name)}"
            what += f"; did you mean {quote(near.suggestion)}?" if near.suggestion else "."
            what += f" There are: {', '.join(names)}"
            problems.append(_problem(f"modifications.{clip(name)}", what, "unknown_parameter", name, names))
    for name, parameter in modifier.parameters.items():
        value = given.get(name)
        path = f"modifications.{name}"
        if value is None:
            if parameter.required:
                problems.append(_problem(path, f"{path} is required", "missing_parameter", None, ()))
            elif parameter.default is not None:
                values[name] = parameter.default
            continue
        wrong = None if _is_drawn(name, value, parameter) else parameter.problem(value)
        if wrong is None:
            values[name] = value
            continue
        code, words = wrong
        choices = parameter.choices or ()
        if code == "value_not_in_list":
            near = nearest(str(value), choices)
            words += f"; there are: {listing(near.listed, len(choices))}"
        problems.append(_problem(path, f"{path}: {words}", code, value, choices))
    return values, problems


def _is_drawn(name: str, value: JsonValue, parameter: Parameter) -> bool:
    if value == RANDOM_INT:
        return parameter.type in {"integer", "number"}
    return name == "seed" and value == _DRAWN_SEED and not isinstance(value, bool)


def _settled(name: str, value: JsonValue, parameter: Parameter, draw: Callable[[], int]) -> JsonValue:
    if not _is_drawn(name, value, parameter):
        return value
    return draw_within(parameter.minimum, parameter.maximum, draw)


def _only_choice(value: JsonValue, specs: Iterable[InputSpec | None]) -> JsonValue:
    """Return the only file that ComfyUI has for an input, where it does not have the default."""
    for spec in specs:
        if spec is not None and spec.is_loader and spec.choices and len(spec.choices) == 1 and not spec.offers(value):
            only: JsonValue = spec.choices[0]
            return only
    return value


def _target(text: str, graph: Graph) -> tuple[str, str]:
    """Return node and field of `node.field`; an id may have dots, as those of nodes in subgraphs never do."""
    node_id, _, key = text.partition(".")
    while node_id not in graph and "." in key:
        more, _, key = key.partition(".")
        node_id = f"{node_id}.{more}"
    return node_id, key.removeprefix("inputs.")


def _spec(graph: Graph, classes: NodeClasses, node_id: str, key: str) -> InputSpec | None:
    node_class = classes.get(graph[node_id]["class_type"]) if node_id in graph else None
    return node_class.inputs.get(key) if node_class is not None else None


def _parameter_problems(
    place: str, name: str, parameter: Parameter, graph: Graph | None, *, has_workflow: bool
) -> Iterable[Problem]:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        yield _problem(place, f"{place}: its minimum {low} is above its maximum {high}", "invalid_modifier", low, ())
    wrong = None if parameter.default is None else parameter.problem(parameter.default)
    if wrong is not None and not _is_drawn(name, parameter.default, parameter):
        yield _problem(place, f"{place}.default: {wrong[1]}", "invalid_modifier", parameter.default, ())
    if not has_workflow:
        if name not in _SHORTCUTS:
            what = f"{place}: without a workflow there is no such parameter; there are: {', '.join(_SHORTCUTS)}"
            yield _problem(place, what, "invalid_modifier", name, _SHORTCUTS)
        return
    if not parameter.targets:
        yield _problem(place, f"{place}: has no targets, so it would set nothing", "invalid_modifier", name, ())
    for text in parameter.targets if graph is not None else ():
        node_id, key = _target(text, graph or {})
        if not key or node_id not in (graph or {}):
            what = f"{place}.targets: {quote(text)} names no node of the workflow; write node.field, as 6.text"
            yield _problem(place, what, "invalid_modifier", text, tuple(graph or {}))


def _shape_problem(path: str, location: tuple[int | str, ...], words: str, code: str = "invalid_modifier") -> Problem:
    place = ".".join([path, *(clip(str(part)) for part in location)])
    return Problem(message=f"{place}: {words}", code=code, path=place)


def _problem(path: str, message: str, code: str, value: object, choices: Iterable[Any]) -> Problem:  # Any: of a combo
    listed = tuple(clip(str(choice)) for choice in choices)[:LISTED_CHOICES]
    near = nearest(value, listed).suggestion if isinstance(value, str) else None
    return Problem(message=message, code=code, path=path, received=received(value), choices=listed, suggestion=near)


def _refused(problems: list[Problem]) -> WorkerError:
    return InvalidRequest(summary(problems), hint="Correct each of these parts of the request.", problems=problems)
