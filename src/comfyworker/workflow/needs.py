"""What a workflow needs and offers: node classes, model files by folder, input files, outputs, parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from comfyworker.jobs import Graph
from comfyworker.workflow._model_folders import folder_of, names_folder
from comfyworker.workflow.files import find_file_inputs
from comfyworker.workflow.graph import is_link, links, title_of
from comfyworker.workflow.metadata import ListedModel, find_listed
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.node_classes import NodeClass, NodeClasses

_FILE_INPUTS = {
    "LoadImage": "image",
    "LoadImageMask": "image",
    "LoadAudio": "audio",
    "LoadVideo": "file",
    "VHS_LoadVideo": "video",
    "VHS_LoadAudioUpload": "audio",
}
_PARAMETERS = re.compile(
    r"^(text|text_[gl]|clip_[lg]|t5xxl|prompt|positive_prompt|negative_prompt|tags|lyrics|seed|noise_seed|width|height"
    r"|length|batch_size|steps|cfg|guidance|denoise|fps|frame_rate|duration|seconds|sampler_name|scheduler"
    r"|strength(_model|_clip)?)$"
)
"""Inputs that callers set, whatever the class."""
_PRIMITIVE = re.compile(r"^Primitive(String|Int|Float|Boolean)")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ClassNeed(_Record):
    """A node class that the workflow uses."""

    class_type: str
    count: int
    pack: str | None = None
    """The custom node that brings it, as far as ComfyUI or the file tells; None for ComfyUI's own."""
    is_there: bool | None = None
    """Whether this ComfyUI has it; None if that is not known."""


class ModelNeed(_Record):
    """A model file that the workflow names."""

    name: str
    folder: str | None
    """Where below ComfyUI's models folder it belongs; None if that is not known."""
    node_ids: tuple[str, ...]
    url: str | None = None
    """Where the file's metadata says it can be had."""
    sha256: str | None = None
    """What the file's metadata says of its content."""
    is_there: bool | None = None
    """Whether this ComfyUI has it; None if that is not known."""
    is_folder: bool = False
    """Whether it is a folder of files, as Hugging Face's transformers have them."""


class FileNeed(_Record):
    """An input file that the workflow names."""

    name: str
    node_id: str
    input_name: str


class OutputNode(_Record):
    """A node that gives results."""

    node_id: str
    class_type: str
    title: str | None


class Parameter(_Record):
    """An input that a caller may want to set."""

    node_id: str
    title: str | None
    class_type: str
    input_name: str
    value: JsonValue


class Needs(_Record):
    """What a workflow needs and offers."""

    classes: tuple[ClassNeed, ...]
    models: tuple[ModelNeed, ...]
    inputs: tuple[FileNeed, ...]
    outputs: tuple[OutputNode, ...]
    parameters: tuple[Parameter, ...]


def inspect_workflow(
    graph: Graph,
    classes: NodeClasses | None = None,
    *,
    listed_models: Iterable[ListedModel] = (),
    packs: Mapping[str, str] | None = None,
) -> Needs:
    """Return what a workflow in API format needs and offers.

    Args:
        graph: The workflow.
        classes: What ComfyUI has; without it, tables and endings of names must do.
        listed_models: What the metadata of a file in GUI format says of models.
        packs: Class → custom node, from the metadata of a file in GUI format.
    """
    return Needs(
        classes=tuple(_class_needs(graph, classes, packs or {})),
        models=tuple(_model_needs(graph, classes, tuple(listed_models))),
        inputs=tuple(_file_needs(graph, classes)),
        outputs=tuple(_outputs(graph, classes)),
        parameters=tuple(_parameters(graph)),
    )


def _class_needs(graph: Graph, classes: NodeClasses | None, packs: Mapping[str, str]) -> Iterator[ClassNeed]:
    for name, count in sorted(Counter(node["class_type"] for node in graph.values()).items()):
        declaration = classes.declaration(name) if classes is not None else None
        module = declaration.get("python_module") if declaration is not None else None
        pack = packs.get(name)
        if isinstance(module, str):
            pack = module.removeprefix("custom_nodes.") if module.startswith("custom_nodes.") else None
        yield ClassNeed(
            class_type=name, count=count, pack=pack, is_there=None if classes is None else declaration is not None
        )


def _model_needs(graph: Graph, classes: NodeClasses | None, listed: tuple[ListedModel, ...]) -> Iterator[ModelNeed]:
    found: dict[tuple[str, str | None], list[tuple[str, bool | None]]] = {}
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"]) if classes is not None else None
        for input_name, name in _named_models(node["class_type"], node["inputs"]):
            folder = find_folder(node["class_type"], input_name, name, listed)
            found.setdefault((name, folder), []).append((node_id, _is_there(node_class, input_name, name)))
    for (name, folder), places in sorted(found.items(), key=lambda item: (item[0][1] or "~", item[0][0])):
        answers = {there for _, there in places if there is not None}
        entry = find_listed(listed, name, folder)
        yield ModelNeed(
            name=name,
            folder=folder,
            node_ids=tuple(dict.fromkeys(node_id for node_id, _ in places)),
            url=entry.url if entry is not None else None,
            sha256=entry.sha256 if entry is not None else None,
            is_there=all(answers) if answers else None,
            is_folder=not is_model_name(name),
        )


def find_folder(class_type: str, input_name: str, name: str, listed: Iterable[ListedModel] = ()) -> str | None:
    """Return the folder of models that an input reads the file `name` from; None if that is not known.

    Args:
        class_type: The node's class.
        input_name: The input.
        name: What it holds.
        listed: What the workflow's metadata says of models.
    """
    folder = folder_of(class_type, input_name, name)
    if folder is None:
        entry = find_listed(listed, name, None)
        folder = entry.folder if entry is not None else None
    return folder


def _named_models(class_type: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield input and name of each model; lists of LoRAs hold objects with a switch."""
    for input_name, value in inputs.items():
        if isinstance(value, dict) and value.get("on") is not False:
            value = value.get("lora")  # noqa: PLW2901 # the name that stands within
        if isinstance(value, str) and is_model_name(value):
            yield input_name, value
        elif isinstance(value, str) and names_folder(class_type, input_name):
            # It is written as `owner/name` or as a path, too; what counts is the folder's own name.
            folder = value.replace("\\", "/").rstrip("/").rpartition("/")[2]
            if folder:
                yield input_name, folder


def _is_there(node_class: NodeClass | None, input_name: str, name: str) -> bool | None:
    spec = node_class.inputs.get(input_name) if node_class is not None else None
    return None if spec is None or spec.choices is None or spec.is_upload else spec.offers(name)


def _file_needs(graph: Graph, classes: NodeClasses | None) -> Iterator[FileNeed]:
    if classes is not None:
        for entry in find_file_inputs(graph, classes):
            yield FileNeed(name=entry.name, node_id=entry.node_id, input_name=entry.input_name)
    for node_id, node in graph.items():
        class_type = node["class_type"]
        if classes is None or class_type not in classes:
            name = node["inputs"].get(_FILE_INPUTS.get(class_type, ""))
            if isinstance(name, str):
                yield FileNeed(name=name, node_id=node_id, input_name=_FILE_INPUTS[class_type])


def _outputs(graph: Graph, classes: NodeClasses | None) -> Iterator[OutputNode]:
    used = {source for node in graph.values() for _, source, _ in links(node)}
    for node_id, node in graph.items():
        node_class = classes.get(node["class_type"]) if classes is not None else None
        # Of a class that is not known, all that can be told is that nobody takes what it gives.
        is_output = node_class.is_output if node_class is not None else node_id not in used
        if is_output:
            yield OutputNode(node_id=node_id, class_type=node["class_type"], title=title_of(graph, node_id))


def _parameters(graph: Graph) -> Iterator[Parameter]:
    for node_id, node in graph.items():
        is_primitive = _PRIMITIVE.match(node["class_type"])
        for input_name, value in node["inputs"].items():
            wanted = _PARAMETERS.match(input_name) or (is_primitive and input_name == "value")
            if wanted and not is_link(value) and not isinstance(value, list | dict):
                yield Parameter(
                    node_id=node_id,
                    title=title_of(graph, node_id),
                    class_type=node["class_type"],
                    input_name=input_name,
                    value=value,
                )
