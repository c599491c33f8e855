"""Which inputs of a workflow name files, and how they are renamed to where the files really lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from comfyworker.jobs import ArtifactKind, Graph
from comfyworker.workflow.graph import is_link
from comfyworker.workflow.node_classes import COMBO, InputSpec, NodeClass, NodeClasses
from comfyworker.workflow.urls import is_url

_ANNOTATION = " [input]"
"""What ComfyUI's page appends to name the folder (ComfyUI `folder_paths.py` annotated_filepath)."""
_TEXTS = frozenset({"text", "prompt"})
_TAKES = {
    "image": (ArtifactKind.IMAGE,),
    "video": (ArtifactKind.VIDEO, ArtifactKind.IMAGE),  # an animation is a picture in our words
    "audio": (ArtifactKind.AUDIO, ArtifactKind.VIDEO),  # whose sound it is
}
"""What loaders of each kind of upload can read, where ComfyUI tells the kind."""


class FileInput(BaseModel):
    """One input that names a file of ComfyUI's input folder."""

    model_config = ConfigDict(frozen=True)

    node_id: str
    input_name: str
    name: str
    """The file's name, without ComfyUI's annotation."""


class UrlInput(BaseModel):
    """One input that loads a file and holds a URL in the place of its name."""

    model_config = ConfigDict(frozen=True)

    node_id: str
    input_name: str
    url: str = Field(repr=False)
    """As it stands there, without ComfyUI's annotation; it may hold a secret in its query."""
    takes: tuple[ArtifactKind, ...] = ()
    """What the node can load from there; empty if that is not known."""


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


def find_url_inputs(graph: Graph, classes: NodeClasses) -> tuple[UrlInput, ...]:
    """Return the http(s) URLs that stand where a node loads an input file, in the order of the graph.

    A URL in any other input, a prompt's text above all, is text and stays what it is. So is one in a node whose class
    is not known. An input that takes several files may hold several URLs.
    """
    return tuple(
        UrlInput(
            node_id=node_id,
            input_name=spec.name,
            url=text.removesuffix(_ANNOTATION),
            takes=_TAKES.get(spec.upload_kind, ()),
        )
        for node_id, node in graph.items()
        for spec in _specs(classes.get(node["class_type"]))
        if spec.is_upload
        for text in _texts(node["inputs"].get(spec.name))
        if is_url(text)
    )


def rename_files(graph: Graph, classes: NodeClasses | None, names: Mapping[str, str]) -> tuple[Graph, frozenset[str]]:
    """Return a copy of `graph` in which inputs that name one of the files name what it is really called.

    Only a value that *is* a name counts, with or without ComfyUI's ` [input]`, and only in an input that can name a
    file: choices, uploads and single-line text. A name within a sentence stays as it is. Where a class is not known,
    every text counts except in inputs called `text` or `prompt`. A name that is a URL counts only where a class that
    is known loads a file: elsewhere the same URL may be meant as such.

    Args:
        graph: The workflow; it is left as it was.
        classes: What ComfyUI has; None if that is not known.
        names: The name that the workflow uses → the name below ComfyUI's input folder.

    Returns:
        The graph, and those of `names` that it uses.
    """
    changed, used = dict(graph), set[str]()
    plain = {name: new for name, new in names.items() if not is_url(name)}
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"]) if classes is not None else None
        renamed = {}
        for input_name, value in node["inputs"].items():
            if is_link(value) or not _can_name_file(node_class, input_name):
                continue
            new = _renamed(value, names if _loads_file(node_class, input_name) else plain, used)
            if new != value:
                renamed[input_name] = new
        if renamed:
            changed[node_id] = {**node, "inputs": {**node["inputs"], **renamed}}
    return changed, frozenset(used)


def _specs(node_class: NodeClass | None) -> Iterator[InputSpec]:
    if node_class is not None:
        yield from node_class.inputs.values()


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield the texts that an input's value holds: itself, or those of a list, plain or wrapped for ComfyUI."""
    if isinstance(value, dict):
        value = value.get("__value__")
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and not is_link(value):
        yield from (item for item in value if isinstance(item, str))


def _loads_file(node_class: NodeClass | None, input_name: str) -> bool:
    spec = None if node_class is None else node_class.inputs.get(input_name)
    return spec is not None and spec.is_upload


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
