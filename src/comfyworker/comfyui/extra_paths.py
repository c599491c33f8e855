"""The file that tells ComfyUI of more model folders, in the form of its extra_model_paths.yaml."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from comfyworker.comfyui.model_kinds import CORE_KINDS, LEGACY_NAMES, NESTED_KINDS, kind_of_folder
from comfyworker.comfyui.model_places import ModelPlace, ModelTree, is_text
from comfyworker.replacing import replace_file

_SECTION = "comfyworker"
_SECTION_FIRST = "comfyworker_copies"
_FIRST_PRINTABLE, _LAST_PRINTABLE = 0x20, 0x7E


def list_extra_paths(places: Sequence[ModelPlace], *, own_models: Path) -> dict[str, tuple[Path, ...]]:
    """Return the folders of each kind of model, in the order in which they are searched.

    ComfyUI's own kinds are named whether their folders are there yet or not: a model that comes later is found. The
    others are named where there is a folder for them, and then with ComfyUI's own folder of that name before it:
    a node pack that finds its kind taken may not add that.

    Args:
        places: Where models lie.
        own_models: ComfyUI's own models folder.
    """
    found: dict[str, list[Path]] = {}
    for tree in (tree for place in places for tree in place.trees):
        for kind, path in _paths(tree):
            paths = found.setdefault(kind, [])
            if kind not in CORE_KINDS and not paths:
                own = own_models / path.relative_to(tree.path)
                paths += [own] if own.is_dir() else []
            if path not in paths:
                paths.append(path)
    return {kind: tuple(paths) for kind, paths in found.items()}


def render_extra_paths(paths: Mapping[str, Sequence[Path]], *, first: Mapping[str, Path] | None = None) -> str:
    """Return the file's text; folders whose names it cannot hold are left out.

    ComfyUI's reader takes one folder a line (`utils/extra_config.py`) and expands variables in `base_path` only, so
    there is none and every path is absolute.

    Args:
        paths: Folders by kind, which ComfyUI searches after its own.
        first: A folder for each of some kinds that it searches before all others.
    """
    lines = list(_section(_SECTION, paths))
    if first:
        # ComfyUI puts each folder of such a section before those that it has, so the last one is the first.
        front = {kind: (folder,) for kind, folder in first.items()}
        lines += _section(_SECTION_FIRST, front, "  is_default: true")
    return "\n".join(["# Written by comfyworker at its start; changes are lost.", *lines]) + "\n" if lines else ""


def write_extra_paths(text: str, folder: Path) -> Path:
    """Write the file into `folder` and return where it is; the system's folder for temporary files, if that cannot be.

    Its name tells its content: workers that find the same folders share it, and no other replaces it.

    Raises:
        OSError: it can be written nowhere.
    """
    try:
        return _write(text, folder)
    except OSError:
        return _write(text, Path(tempfile.mkdtemp(prefix="comfyworker-")))


def _write(text: str, folder: Path) -> Path:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder.absolute() / f"extra_model_paths-{digest}.yaml"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, text.encode(), mode=0o600)
    return path


def _section(name: str, paths: Mapping[str, Sequence[Path]], *more: str) -> Iterator[str]:
    """Yield the lines of a section, none if it would name no folder."""
    entries = []
    for kind, folders in _with_legacy_names(paths).items():
        texts = [str(folder) for folder in folders if _can_be_written(str(folder))]
        if texts and _can_be_written(kind):
            entries.append(f"  {_quoted(kind)}: {_quoted(chr(10).join(texts))}")
    if entries:
        yield from (f"{name}:", *more, *entries)


def _paths(tree: ModelTree) -> Iterator[tuple[str, Path]]:
    for kind, folders in CORE_KINDS.items():
        for folder in folders:
            yield kind, tree.path / folder
    for name in tree.folders:
        kind = kind_of_folder(name) or name
        if kind not in CORE_KINDS:
            yield kind, tree.path / name
    for kind, parts in NESTED_KINDS.items():
        if parts[0] in tree.folders and tree.path.joinpath(*parts).is_dir():
            yield kind, tree.path.joinpath(*parts)


def _with_legacy_names(paths: Mapping[str, Sequence[Path]]) -> dict[str, Sequence[Path]]:
    old = {name: paths[kind] for name, kind in LEGACY_NAMES.items() if kind in paths}
    return {**paths, **old}


def _can_be_written(text: str) -> bool:
    return "\n" not in text and is_text(text)


def _quoted(text: str) -> str:
    """Return `text` as a double-quoted scalar of YAML 1.1, in ASCII."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    number = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if _FIRST_PRINTABLE <= number <= _LAST_PRINTABLE:
        return character
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"
