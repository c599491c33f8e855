"""Model files of a few bytes on a "volume", and who looks for them there."""

import os
from pathlib import Path

from comfyworker.comfyui.model_kinds import CORE_KINDS
from comfyworker.prefetch.order import ModelFile, SearchOrder


def write_model(path: Path, content: bytes = b"model", *, mtime_s: int | None = None) -> Path:
    """Write a file with its folders; `mtime_s` is its time, None is now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if mtime_s is not None:
        os.utime(path, (mtime_s, mtime_s))
    return path


def order_on(volume: Path) -> SearchOrder:
    """Return the search order of a ComfyUI whose models all lie on `volume`, in folders of ComfyUI's names."""
    folders = {kind: tuple(volume / name for name in names) for kind, names in CORE_KINDS.items()}
    return SearchOrder(folders=folders, volumes=(volume,))


def found(order: SearchOrder, name: str, kind: str = "checkpoints") -> ModelFile:
    """Return a file that is there."""
    file = order.find(kind, name)
    assert file is not None
    return file
