"""Propose a modifier for a workflow: the inputs that callers would want to set, under good names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import JsonValue

from comfyworker.jobs import RANDOM_INT, Graph
from comfyworker.workflow._targets import Place, find_targets
from comfyworker.workflow.files import find_file_inputs
from comfyworker.workflow.graph import is_link, title_of
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.modifiers import Parameter
from comfyworker.workflow.node_classes import InputSpec, NodeClasses

_TEXTS = frozenset(
    {
        "text", "prompt", "user_prompt", "positive_prompt", "negative_prompt", "clip_l", "clip_g", "t5xxl", "text_g",
        "text_l", "tags", "lyrics",
    }
)  # fmt: skip
_NUMBERS = frozenset(
    {
        "seed", "noise_seed", "width", "height", "length", "batch_size", "steps", "cfg", "guidance", "denoise", "fps",
        "frame_rate", "seconds", "strength", "strength_model", "strength_clip",
    }
)  # fmt: skip
_CHOICES = frozenset({"sampler_name", "scheduler"})
_FILES = {"LoadImage": "image", "LoadImageMask": "image", "LoadAudio": "audio", "LoadVideo": "file"}
_NAMES = {"noise_seed": "seed", "image": "input_image", "text": "prompt", "user_prompt": "prompt"}
"""What callers call an input, where its node calls it something else."""
_WORDS = {
    "prompt": "What is to be made.",
    "negative_prompt": "What must not be in it.",
    "seed": "Where the noise starts from; -1 draws one.",
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "steps": "How many steps are sampled.",
    "cfg": "How strictly the prompt is followed.",
    "denoise": "How much of the start is replaced by noise.",
    "batch_size": "How many at once.",
    "sampler_name": "One of ComfyUI's samplers.",
    "scheduler": "One of ComfyUI's schedulers.",
    "input_image": "A name among the request's files, or an http(s) URL.",
}
_MAX_CHOICES = 100
"""More choices than this are left to ComfyUI, which knows them anyway."""


class _Found(NamedTuple):
    """One input worth setting."""

    node_id: str
    input_name: str
    value: Any  # Any: a literal of any kind
    spec: InputSpec | None
    wanted: str
    """What it would be called if nothing else were."""
    is_usual: bool
    """Whether a shortcut means it; then it gets its name, alone or together with others."""


def propose_modifier(graph: Graph, classes: NodeClasses | None, *, name: str) -> dict[str, JsonValue]:
    """Return a modifier file for a workflow, as plain JSON.

    Args:
        graph: The workflow, in API format.
        classes: What ComfyUI has, for types, bounds and choices; without it, the values that are there must do.
        name: What the modifier is called.
    """
    found = list(_find(graph, classes or NodeClasses({})))
    parameters: dict[str, JsonValue] = {key: _describe(items) for key, items in _named(graph, found).items()}
    return {"name": name, "description": "", "workflow": dict(graph), "parameters": parameters}


def _find(graph: Graph, classes: NodeClasses) -> Iterator[_Found]:
    usual, negative = _usual_names(graph, classes), _negative_nodes(graph)
    files = {(found.node_id, found.input_name) for found in find_file_inputs(graph, classes)}
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"])
        for name, value in node["inputs"].items():
            place = (node_id, name)
            spec = node_class.inputs.get(name) if node_class is not None else None
            is_file = place in files or (node_class is None and _FILES.get(node["class_type"]) == name)
            if _is_literal(value) and (is_file or place in usual or _is_worth(name, value, spec)):
                wanted = usual.get(place) or _NAMES.get(name, name)
                if name in _TEXTS and node_id in negative and place not in usual:
                    wanted = "negative_prompt"
                yield _Found(node_id, name, value, spec, wanted, place in usual)


def _usual_names(graph: Graph, classes: NodeClasses) -> dict[Place, str]:
    """Return the inputs that the shortcuts mean, where only one node can be meant."""
    names: dict[Place, str] = {}
    for kind in ("prompt", "seed", "size", "steps"):
        targets = find_targets(graph, classes, kind)
        for name, pairs in targets[0].inputs.items() if len(targets) == 1 else ():
            names.update({place: name for place, _ in pairs})
    return names


def _negative_nodes(graph: Graph) -> frozenset[str]:
    sources = (node["inputs"].get("negative") for node in graph.values())
    return frozenset(source[0] for source in sources if is_link(source))


def _is_literal(value: object) -> bool:
    return isinstance(value, str | int | float) and not is_link(value)


def _is_worth(name: str, value: object, spec: InputSpec | None) -> bool:
    if is_model_name(value) or (spec is not None and spec.is_loader) or name in _CHOICES:
        return isinstance(value, str)
    if name in _TEXTS:
        return isinstance(value, str)
    return name in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool)


def _named(graph: Graph, found: list[_Found]) -> dict[str, list[_Found]]:
    """Return the inputs by name: the plain one where only one input wants it, else with its node's title or id."""
    named: dict[str, list[_Found]] = {}
    for item in found:
        if item.is_usual:
            named.setdefault(item.wanted, []).append(item)
    others = [item for item in found if not item.is_usual]
    wanted = Counter([*named, *(item.wanted for item in others)])
    for item in others:
        name = item.wanted if wanted[item.wanted] == 1 else _titled(graph, item)
        while name in named:
            name = f"{name}_{_plain(item.node_id)}"
        named[name] = [item]
    return named


def _titled(graph: Graph, item: _Found) -> str:
    """Return a name made of the node's title, which a person gave it to tell it from others."""
    title = _plain(title_of(graph, item.node_id) or "")
    title = title if title and title != _plain(graph[item.node_id]["class_type"]) else f"node_{_plain(item.node_id)}"
    return item.wanted if title == item.wanted else f"{title}_{item.wanted}"


def _plain(text: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:40].strip("_")


def _describe(items: list[_Found]) -> dict[str, JsonValue]:
    """Return the parameter that sets these inputs; the first of them tells what it may be."""
    item = items[0]
    described: dict[str, JsonValue] = {"type": _type_of(item.value, item.spec)}
    described.update(_limits(item))
    default = RANDOM_INT if item.wanted == "seed" else item.value
    if Parameter.model_validate(described).problem(default) is None:
        described["default"] = default
    described["description"] = _WORDS.get(item.wanted, "")
    described["targets"] = [f"{found.node_id}.{found.input_name}" for found in items]
    return described


def _limits(item: _Found) -> dict[str, JsonValue]:
    spec, limits = item.spec, dict[str, JsonValue]()
    if spec is None:
        return limits
    if spec.type_name in {"INT", "FLOAT"}:
        bounds = {"minimum": spec.minimum, "maximum": spec.maximum}
        limits.update({key: bound for key, bound in bounds.items() if bound is not None})
    # Files come and go, so a list of them would be stale; ComfyUI is asked for those.
    if spec.choices and not spec.is_open and not spec.is_loader and len(spec.choices) <= _MAX_CHOICES:
        choices: list[JsonValue] = [choice for choice in spec.choices if isinstance(choice, str)]
        if item.value in choices:
            limits["choices"] = choices
    return limits


def _type_of(value: object, spec: InputSpec | None) -> str:
    declared = {"INT": "integer", "FLOAT": "number", "BOOLEAN": "boolean", "STRING": "string"}
    if spec is not None and spec.type_name in declared:
        return declared[spec.type_name]
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"
