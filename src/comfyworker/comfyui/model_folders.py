"""Which model files a ComfyUI has: counted by folder, with those that extra_model_paths.yaml adds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.running import CommandFailed, run_command

EXTRA_PATHS_NAME = "extra_model_paths.yaml"

_LIMIT_S = 30.0
# Run by ComfyUI's own interpreter: the worker has no YAML reader, and needs none otherwise.
_READ_YAML = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))"
_MARKER_PREFIX = "put_"


class ModelFolder(BaseModel):
    """One folder of models."""

    model_config = ConfigDict(frozen=True)

    name: str
    """As ComfyUI calls the kind of model: checkpoints, loras, …"""
    path: Path
    exists: bool
    files: int
    size_bytes: int


class UnreadableExtraPaths(Exception):
    """extra_model_paths.yaml is there and cannot be read; the text says why."""


def list_model_folders(models: Path) -> tuple[ModelFolder, ...]:
    """Return the folders below `models`, by name, each with its files counted."""
    if not models.is_dir():
        return ()
    return tuple(count_folder(entry.name, entry) for entry in sorted(models.iterdir()) if entry.is_dir())


def count_folder(name: str, path: Path) -> ModelFolder:
    """Return how many files lie below `path`, and how large they are; links are followed, placeholders left out."""
    sizes = list(_file_sizes(path))
    return ModelFolder(name=name, path=path, exists=path.is_dir(), files=len(sizes), size_bytes=sum(sizes))


async def read_extra_paths(comfyui: Path, python: Path) -> tuple[ModelFolder, ...]:
    """Return the folders that ComfyUI's extra_model_paths.yaml adds; none if there is no such file.

    Raises:
        UnreadableExtraPaths: the file cannot be read, or is no YAML.
    """
    path = comfyui / EXTRA_PATHS_NAME
    if not await asyncio.to_thread(path.is_file):
        return ()
    try:
        *_, answer = await run_command([str(python), "-I", "-c", _READ_YAML, str(path)], limit_s=_LIMIT_S)
        content = json.loads(answer)
    except CommandFailed as error:
        raise UnreadableExtraPaths(error.tail[-1] if error.tail else str(error)) from error
    except ValueError as error:
        raise UnreadableExtraPaths("it holds no mapping") from error
    if content is None:
        return ()
    if not isinstance(content, dict):
        raise UnreadableExtraPaths("it holds no mapping")
    found = list(resolve_extra_paths(content, comfyui))
    return await asyncio.to_thread(lambda: tuple(count_folder(name, folder) for name, folder in found))


def resolve_extra_paths(content: Mapping[str, object], comfyui: Path) -> Iterator[tuple[str, Path]]:
    """Yield (kind, folder) for each path in the file's content, as ComfyUI's `utils/extra_config.py` resolves them."""
    for section in content.values():
        if not isinstance(section, dict):
            continue
        base = comfyui / os.path.expandvars(Path(str(section.get("base_path") or "")).expanduser())
        for kind, lines in section.items():
            if kind in ("base_path", "is_default") or not isinstance(lines, str):
                continue
            for line in lines.splitlines():
                if line.strip():
                    yield kind, base / line.strip()


def _file_sizes(path: Path) -> Iterator[int]:
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()  # links may form a circle
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith((".", _MARKER_PREFIX)):
                continue
            try:
                yield (Path(folder) / name).stat().st_size
            except OSError:
                continue  # a link that leads nowhere, or a file that was just removed
