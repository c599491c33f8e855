"""Whether ComfyUI is where it shall live, with all that it needs there; told by notes and names, in milliseconds."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from comfyworker.comfyui.home import choose_home, current_tree, is_home, read_home
from comfyworker.comfyui.locate import find_python, locate_comfyui
from comfyworker.comfyui.overlay import overlay_path, read_overlay, wants_overlay
from comfyworker.errors import ComfyUINotFound
from comfyworker.settings import ComfyUISettings


def find_unsettled(settings: ComfyUISettings, *, cwd: Path) -> Path | None:
    """Return the home in which something must be done before ComfyUI can be started from it; None if there is none.

    Blocks.

    Raises:
        ComfyUINotFound: COMFYUI_PYTHON names no executable file.
    """
    home = find_home(settings, cwd=cwd)
    return None if home is None or _is_settled(home, settings, cwd) else home


def find_home(settings: ComfyUISettings, *, cwd: Path) -> Path | None:
    """Return the home that a worker looks after; None where ComfyUI runs from where it was installed. Blocks."""
    if settings.api_urls:
        return None
    if settings.path is None:
        home = choose_home(settings, cwd=cwd)
        if home is not None:
            return home
    try:
        path = locate_comfyui(settings, cwd=cwd).path
    except ComfyUINotFound:
        return None  # whoever starts it tells
    return path if path is not None and read_home(path) is not None else None


def _is_settled(home: Path, settings: ComfyUISettings, cwd: Path) -> bool:
    if not is_home(home):
        return False
    base = find_python(home, settings, cwd=cwd)
    tree = current_tree(home)
    if base is None or not wants_overlay(home, tree, base):
        return True
    environment = overlay_path(home, tree, base)
    if environment is None:
        return True
    if read_overlay(environment) is None:
        return False
    with contextlib.suppress(OSError):  # so that it is not taken for one that nobody needs
        os.utime(environment)
    return True
