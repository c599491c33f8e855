"""Which inputs of a workflow are its prompt, its seed, its size and its steps, whatever nodes it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from comfyworker.jobs import Graph
from comfyworker.workflow.graph import ancestors, is_link
from comfyworker.workflow.node_classes import NodeClass, NodeClasses
from comfyworker.workflow.output_nodes import output_nodes

Place = tuple[str, str]
"""A node's id and an input's name."""

_TEXTS = (
    ("text",),
    ("prompt",),
    ("prompt_text",),
    ("user_prompt",),
    ("positive_prompt",),
    ("clip_l", "clip_g", "t5xxl", "llama"),
    ("text_g", "text_l"),
    ("bert", "mt5xl"),
    ("tags",),
)
"""Groups of inputs that hold the text of an encoder; those of one group all get the prompt."""
_INPUTS = {"seed": (("seed",), ("noise_seed",)), "steps": (("steps",),), "prompt": _TEXTS}
_SIZE = ("width", "height")
_PRIMITIVE_INPUTS = ("value", "seed", "int", "number", "Number", "string", "text", "prompt", "String", "Text")
_GUIDER = re.compile(r"guider|sampler", re.IGNORECASE)
_SAMPLING = re.compile(r"sampler|noise", re.IGNORECASE)
_LATENTS = ("latent_image", "latent", "latents", "samples", "latent_samples")
_CONDITIONINGS = re.compile(r"^(cond|conditioning|text_embeds)(_?\w+)?$", re.IGNORECASE)
_HOPS = 20
"""How many nodes a value may be handed through before it is taken for computed."""


class Target(NamedTuple):
    """A node that takes what is looked for."""

    node_id: str
    inputs: dict[str, tuple[tuple[Place, Place], ...]]
    """What is set (`prompt`, `seed`, `width`, …) → where the value stands, and the node's own input for it."""

    def places(self, name: str) -> tuple[tuple[Place, Place], ...]:
        """Return where the value stands (maybe in a primitive node that is linked here), and the node's own input."""
        return self.inputs.get(name, ())

    @property
    def identity(self) -> frozenset[Place]:
        """Where the values stand: two nodes that get them from the same primitive nodes are one target."""
        return frozenset(place for pairs in self.inputs.values() for place, _ in pairs)


def takes(graph: Graph, classes: NodeClasses, node_id: str, kind: str) -> Target | None:
    """Return the node as a target for `kind`; None if it does not take that.

    Args:
        graph: The workflow.
        classes: What ComfyUI has; a class that it does not have takes what the node shows.
        node_id: A node of the workflow.
        kind: `prompt`, `seed`, `size` or `steps`.
    """
    node = graph[node_id]
    node_class = classes.get(node["class_type"])
    if kind == "size":
        if all(_has(node, node_class, name, ("INT",)) for name in _SIZE):
            return Target(node_id, {name: (_located(graph, node_id, name),) for name in _SIZE})
        return None
    kinds = ("STRING",) if kind == "prompt" else ("INT",)
    for group in _INPUTS[kind]:
        names = [name for name in group if _has(node, node_class, name, kinds)]
        if names:
            return Target(node_id, {kind: tuple(_located(graph, node_id, name) for name in names)})
    return None


def find_targets(graph: Graph, classes: NodeClasses, kind: str) -> list[Target]:
    """Return the nodes that can be meant by `kind`, in the order of the graph; one means it is certain.

    Only nodes that an output node needs count. Of those, the likelier ones hide the others: an encoder that leads to
    `positive` hides all other texts.
    """
    running = _running(graph, classes)
    able = {node_id: target for node_id in running if (target := takes(graph, classes, node_id, kind)) is not None}
    for tier in _TIERS[kind]:
        chosen = set(tier(graph, classes, able))
        found = {able[node_id].identity: able[node_id] for node_id in reversed(running) if node_id in chosen}
        if found:
            return list(reversed(found.values()))
    return []


def _running(graph: Graph, classes: NodeClasses) -> list[str]:
    """Return the nodes that would run; all of them where ComfyUI knows no output among them."""
    outputs = output_nodes(graph, classes)
    needed = ancestors(graph, outputs) if outputs else graph.keys()
    return [node_id for node_id in graph if node_id in needed]


def _has(node: dict[str, Any], node_class: NodeClass | None, name: str, kinds: tuple[str, ...]) -> bool:  # Any: Graph
    """Tell whether the node has such an input, of one of ComfyUI's types `kinds`."""
    spec = node_class.inputs.get(name) if node_class is not None else None
    if spec is not None:
        return spec.type_name in kinds
    if name not in node["inputs"] or node_class is not None:
        return False
    value = node["inputs"][name]
    if is_link(value):
        return True
    return isinstance(value, str) if "STRING" in kinds else _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _located(graph: Graph, node_id: str, name: str) -> tuple[Place, Place]:
    """Return where the input's value stands: itself, or the primitive node that it is linked to."""
    direct = place = (node_id, name)
    for _ in range(_HOPS):
        value = graph[place[0]]["inputs"].get(place[1])
        if not is_link(value):
            return place, direct
        source = graph.get(value[0])
        if source is None:
            break
        linked = [key for key, below in source["inputs"].items() if is_link(below)]
        literal = next((key for key in _PRIMITIVE_INPUTS if key in source["inputs"]), None)
        if linked and (len(linked) > 1 or len(source["inputs"]) > 1):
            break  # it computes something
        if not linked and (literal is None or not _is_primitive(source)):
            break
        place = (value[0], linked[0] if linked else literal or "")
    return direct, direct


def _is_primitive(node: dict[str, Any]) -> bool:  # Any: as in Graph
    """Tell whether a node without links does nothing but give a value."""
    return len(node["inputs"]) == 1 or bool(
        re.search(r"primitive|const|seed|int|string|text", node["class_type"], re.IGNORECASE)
    )


Tier = Callable[[Graph, NodeClasses, Iterable[str]], Iterable[str]]


def _positive(graph: Graph, classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    """Yield the nodes with text that lead to a sampler's or guider's positive conditioning."""
    texts, seen = set(able), set[Place]()
    waiting = list(_conditioned(graph, classes))
    while waiting:
        node_id, name = place = waiting.pop()
        value = graph[node_id]["inputs"].get(name)
        if place in seen or not is_link(value) or value[0] not in graph:
            continue
        seen.add(place)
        source, slot = value[0], value[1]
        if source in texts:
            yield source
            continue
        inputs = graph[source]["inputs"]
        if "positive" in inputs:
            # Nodes that take both give both, in this order.
            waiting.append((source, "negative" if slot == 1 else "positive"))
        else:
            waiting.extend((source, key) for key in inputs if _gives_conditioning(graph, classes, source, key))


def _conditioned(graph: Graph, classes: NodeClasses) -> Iterator[Place]:
    """Yield the inputs through which samplers and guiders are told what to make."""
    for node_id in _running(graph, classes):
        node = graph[node_id]
        node_class = classes.get(node["class_type"])
        given = node_class.output_types if node_class is not None else ()
        if is_link(node["inputs"].get("positive")):
            if "CONDITIONING" not in given:
                yield node_id, "positive"
        elif "GUIDER" in given or ("CONDITIONING" not in given and _GUIDER.search(node["class_type"])):
            for key in ("conditioning", "cond1", "text_embeds"):
                yield node_id, key


def _gives_conditioning(graph: Graph, classes: NodeClasses, node_id: str, name: str) -> bool:
    node_class = classes.get(graph[node_id]["class_type"])
    spec = node_class.inputs.get(name) if node_class is not None else None
    if spec is not None and spec.type_name == "CONDITIONING":
        return True
    return bool(_CONDITIONINGS.match(name))


def _encoders(graph: Graph, classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    for node_id in able:
        node_class = classes.get(graph[node_id]["class_type"])
        if node_class is not None and "CONDITIONING" in node_class.output_types:
            yield node_id


def _all(_graph: Graph, _classes: NodeClasses, able: Iterable[str]) -> Iterable[str]:
    return able


def _sampling(graph: Graph, classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    """Yield samplers, schedulers and noise nodes, but for samplers that are told to add no noise."""
    for node_id in able:
        node = graph[node_id]
        node_class = classes.get(node["class_type"])
        kinds: set[Any] = set() if node_class is None else {str(kind) for kind in node_class.output_types}
        if node["inputs"].get("add_noise") != "disable" and (
            kinds & {"NOISE", "SIGMAS"} or _SAMPLING.search(node["class_type"]) or "LATENT" in kinds
        ):
            yield node_id


def _start_latents(graph: Graph, _classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    """Yield the nodes with a size whose latent sampling starts from: what `latent_image` leads back to."""
    sized, seen = set(able), set[str]()
    waiting = [node["inputs"]["latent_image"] for node in graph.values() if "latent_image" in node["inputs"]]
    while waiting:
        link = waiting.pop()
        if not is_link(link) or link[0] not in graph or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = graph[link[0]]["inputs"]
        before = [inputs[key] for key in _LATENTS if is_link(inputs.get(key))]
        # A node that scales a latent has a size, too, but it is not where sampling starts.
        if link[0] in sized and not before:
            yield link[0]
        waiting.extend(before)


def _empty_latents(graph: Graph, _classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    return (node_id for node_id in able if re.search("empty.*latent", graph[node_id]["class_type"], re.IGNORECASE))


def _sources(graph: Graph, _classes: NodeClasses, able: Iterable[str]) -> Iterator[str]:
    """Yield nodes that make their picture from nothing."""
    for node_id in able:
        inputs = graph[node_id]["inputs"]
        if not any(is_link(value) for name, value in inputs.items() if name not in _SIZE):
            yield node_id


_TIERS: dict[str, tuple[Tier, ...]] = {
    "prompt": (_positive, _encoders, _all),
    "seed": (_sampling, _all),
    "steps": (_sampling, _all),
    "size": (_start_latents, _empty_latents, _sources, _all),
}
