"""What a prompt has produced, read from the outputs that ComfyUI reports for each node.

Wire source: `executed` events and the `outputs` of `/history`, both `{node_id: {key: [entry, …]}}`. ComfyUI joins the
lists of a node's runs (`execution.py` get_output_from_returns), so nearly every value is a list, flags included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.media_types import MODEL_EXTENSIONS

_DELIVERED_TYPES = frozenset({"output", "temp"})
_ECHO_TYPE = "input"
"""An entry of this type shows what went in (LoadImage's preview, Load3D): it is no output."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class OutputFile(_Record):
    """One file that a node reported."""

    filename: str
    subfolder: str
    folder_type: str
    """ComfyUI's `type`: output or temp."""
    node_id: str
    output_key: str
    """The key under which it was reported: `images`, `gifs`, `audio`, `3d`, …"""
    format_hint: str | None = None
    """The `format` that VideoHelperSuite adds, as `video/h264-mp4`."""
    is_preview: bool = False
    """Preview3D names the model that it shows. That may be an input's, so it need not be there as an output."""


class OutputText(_Record):
    """One text that a node reported."""

    text: str
    node_id: str
    output_key: str


class Outputs(_Record):
    """All that a prompt has produced, in the order in which it was reported."""

    files: tuple[OutputFile, ...] = ()
    texts: tuple[OutputText, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was reported in a shape that nobody knows: one sentence a node and key."""


_Item: TypeAlias = OutputFile | OutputText | str | None
"""What an entry is; None if it is nothing to deliver, a phrase for what it is if nobody knows its shape."""


def parse_outputs(outputs: Mapping[str, Any]) -> Outputs:  # Any: nodes report what they like
    """Return the files and texts in what ComfyUI reports; a file reported twice counts once, the first time.

    Never raises: an entry of an unknown shape becomes a warning.
    """
    files: dict[tuple[str, str, str], OutputFile] = {}
    texts: list[OutputText] = []
    warnings: list[str] = []
    for node_id, key, value in _reported(outputs, warnings):
        strange: list[str] = []
        for item in _items(node_id, key, value):
            if isinstance(item, OutputFile):
                place = (item.folder_type, item.subfolder, item.filename)
                if place not in files or files[place].is_preview:
                    files[place] = item
            elif isinstance(item, OutputText):
                texts.append(item)
            elif item is not None:
                strange.append(item)
        if strange:
            warnings.append(_warning(node_id, key, strange))
    return Outputs(files=tuple(files.values()), texts=tuple(texts), warnings=tuple(warnings))


def select_outputs(outputs: Outputs) -> Outputs:
    """Return what is to be delivered: temp files are previews, left out unless no file was saved. Text stays."""
    saved = tuple(file for file in outputs.files if file.folder_type == "output" and not file.is_preview)
    if not saved:
        return outputs
    kept = tuple(file for file in outputs.files if file.folder_type == "output")
    return outputs.model_copy(update={"files": kept})


def _reported(outputs: Mapping[str, Any], warnings: list[str]) -> Iterator[tuple[str, str, Any]]:
    for node_id, ui in outputs.items():
        if ui is None:
            continue  # A node that ran and showed nothing.
        if not isinstance(ui, Mapping):
            warnings.append(f"node {node_id}: reported {_kind(ui)} in place of its outputs, which was not delivered")
            continue
        for key, value in ui.items():
            yield str(node_id), str(key), value


def _items(node_id: str, key: str, value: object) -> Iterator[_Item]:
    """Yield what one key's value holds; it need not be a list."""
    if not isinstance(value, list | tuple):
        yield _read_entry(value, node_id, key)
    elif key == "result" and value and _names_model(value[0]):
        # Preview3D: [model file, camera, background picture in temp]; only the first is a product.
        # Wire source: comfy_extras/nodes_load_3d.py Preview3D.process; comfy_api/latest/_ui.py PreviewUI3D.
        yield _read_preview(str(value[0]), node_id, key)
    else:
        for entry in value:
            yield _read_entry(entry, node_id, key)


def _names_model(value: object) -> bool:
    return isinstance(value, str) and value.rpartition(".")[2].lower() in MODEL_EXTENSIONS and "\n" not in value


def _read_preview(path: str, node_id: str, key: str) -> _Item:
    subfolder, _, filename = path.replace("\\", "/").rpartition("/")
    if path.startswith(("/", "\\")) or ":" in path or ".." in subfolder.split("/"):
        return "a 3D model outside of the output folder"
    place = {"filename": filename, "subfolder": subfolder, "folder_type": "output"}
    return OutputFile(**place, node_id=node_id, output_key=key, is_preview=True)


def _read_entry(entry: object, node_id: str, key: str) -> _Item:
    if isinstance(entry, str):
        # Halves of pairs, which nodes make of bytes that they cannot read, are no text that could be sent on.
        text = entry.encode(errors="replace").decode()
        return OutputText(text=text, node_id=node_id, output_key=key)
    if entry is None or isinstance(entry, bool):
        return None  # A flag that describes the node's other outputs, as `animated: [true]`.
    if isinstance(entry, Mapping) and "filename" in entry:
        return _read_file(entry, node_id, key)
    return _kind(entry)


def _read_file(entry: Mapping[str, Any], node_id: str, key: str) -> _Item:
    filename, subfolder = entry["filename"], entry.get("subfolder") or ""
    folder_type, hint = entry.get("type") or "output", entry.get("format")
    if folder_type == _ECHO_TYPE:
        return None
    if not isinstance(filename, str) or not filename or not isinstance(subfolder, str):
        return "a file without a name"
    if folder_type not in _DELIVERED_TYPES:
        return "a file in an unknown folder"
    return OutputFile(
        filename=filename,
        subfolder=subfolder,
        folder_type=folder_type,
        node_id=node_id,
        output_key=key,
        format_hint=hint if isinstance(hint, str) else None,
    )


def _warning(node_id: str, key: str, strange: list[str]) -> str:
    kinds = ", ".join(dict.fromkeys(strange))
    count = "an entry" if len(strange) == 1 else f"{len(strange)} entries"
    return f"node {node_id}, output '{key}': {count} of an unknown shape ({kinds}) not delivered"


def _kind(value: object) -> str:
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", bool: "a flag"}
    return kinds.get(type(value), f"a {type(value).__name__}")
