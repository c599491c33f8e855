"""Which inputs of a workflow name files, and how they are renamed to where the files really lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from comfyworker.jobs import Graph
from comfyworker.workflow.graph import is_link
from comfyworker.workflow.node_classes import COMBO, InputSpec, NodeClass, NodeClasses

_ANNOTATION = " [input]"
"""What ComfyUI's page appends to name the folder (ComfyUI `folder_paths.py` annotated_filepath)."""
_TEXTS = frozenset({"text", "prompt"})


class FileInput(BaseModel):
    """One input that names a file of ComfyUI's input folder."""

    model_config = ConfigDict(frozen=True)

    node_id: str
    input_name: str
    name: str
    """The file's name, without ComfyUI's annotation."""


def find_file_inputs(graph: Graph, classes: NodeClasses) -> tuple[FileInput, ...]:
    """Return the inputs that ComfyUI takes as names in its input folder, in the order of the graph.

    A name that is annotated with another folder, as `x.png [output]`, is left out.
    """
    return tuple(
        FileInput(node_id=node_id, input_name=spec.name, name=value.removesuffix(_ANNOTATION))
        for node_id, node in graph.items()
        for spec in _specs(classes.get(node["class_type"]))
        if spec.is_upload
        and isinstance(value := node["inputs"].get(spec.name), str)
        and not value.endswith((" [output]", " [temp]"))
    )


def rename_files(graph: Graph, classes: NodeClasses | None, names: Mapping[str, str]) -> tuple[Graph, frozenset[str]]:
    """Return a copy of `graph` in which inputs that name one of the files name what it is really called.

    Only a value that *is* a name counts, with or without ComfyUI's ` [input]`, and only in an input that can name a
    file: choices, uploads and single-line text. A name within a sentence stays as it is. Where a class is not known,
    every text counts except in inputs called `text` or `prompt`.

    Args:
        graph: The workflow; it is left as it was.
        classes: What ComfyUI has; None if that is not known.
        names: The name that the workflow uses → the name below ComfyUI's input folder.

    Returns:
        The graph, and those of `names` that it uses.
    """
    changed, used = dict(graph), set[str]()
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"]) if classes is not None else None
        renamed = {}
        for input_name, value in node["inputs"].items():
            if is_link(value) or not _can_name_file(node_class, input_name):
                continue
            new = _renamed(value, names, used)
            if new != value:
                renamed[input_name] = new
        if renamed:
            changed[node_id] = {**node, "inputs": {**node["inputs"], **renamed}}
    return changed, frozenset(used)


def _specs(node_class: NodeClass | None) -> Iterator[InputSpec]:
    if node_class is not None:
        yield from node_class.inputs.values()


def _can_name_file(node_class: NodeClass | None, input_name: str) -> bool:
    if node_class is None:
        return input_name.lower() not in _TEXTS
    spec = node_class.inputs.get(input_name)
    if spec is None:
        return False
    return spec.is_upload or spec.type_name == COMBO or (spec.type_name == "STRING" and not spec.is_multiline)


def _renamed(value: Any, names: Mapping[str, str], used: set[str]) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value under its new name; lists of names, plain or wrapped for ComfyUI, are renamed one by one."""
    if isinstance(value, str):
        name = value.removesuffix(_ANNOTATION)
        # A file may really be called "x [input]".
        key = value if value in names else name
        if key not in names:
            return value
        used.add(key)
        return names[key] + value[len(key) :]
    if isinstance(value, list):
        return [_renamed(item, names, used) if isinstance(item, str) else item for item in value]
    if isinstance(value, dict) and isinstance(value.get("__value__"), str | list):
        return {**value, "__value__": _renamed(value["__value__"], names, used)}
    return value
