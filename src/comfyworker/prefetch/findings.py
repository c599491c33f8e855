"""What there is to say about bringing models nearer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from comfyworker.comfyui.finding import Finding, Level, format_bytes
from comfyworker.prefetch.copies import SPARE_BYTES, LocalCopies
from comfyworker.prefetch.memory import available_bytes
from comfyworker.settings import VolumeSettings

_AREA = "prefetch"


def prefetch_findings(settings: VolumeSettings, volumes: Sequence[Path]) -> list[Finding]:
    """Say what is copied, or how much may be read ahead, and what is wrong with the place; nothing if it is off.

    Blocks for a moment; changes nothing.

    Args:
        settings: PREFETCH_MODELS and the bounds of copies.
        volumes: The places where models lie.
    """
    if settings.prefetch_mode == "off":
        return []
    if settings.prefetch_mode == "readahead":
        available = available_bytes() or 0
        text = f"Models are read ahead into memory, of which {format_bytes(available)} are available."
        return [Finding(area=_AREA, level=Level.OK, text=text, facts={"available_bytes": available})]
    folder = settings.local_cache_path
    above = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    contents = LocalCopies(folder, most_bytes=settings.local_cache_bytes).contents()
    free = shutil.disk_usage(above).free
    files = "1 model has" if contents.files == 1 else f"{contents.files} models have"
    text = (
        f"{files} a copy in {folder}: {format_bytes(contents.size_bytes)} "
        f"of {format_bytes(settings.local_cache_bytes)}, {format_bytes(free)} are free there."
    )
    facts: dict[str, JsonValue] = {
        "path": str(folder),
        "files": contents.files,
        "size_bytes": contents.size_bytes,
        "free_bytes": free,
    }
    problem = _problem(folder, above, volumes, free + contents.size_bytes, settings.local_cache_bytes)
    if problem is None:
        return [Finding(area=_AREA, level=Level.OK, text=text, facts=facts)]
    reason, advice = problem
    return [Finding(area=_AREA, level=Level.WARNING, text=f"{text} {reason}", advice=advice, facts=facts)]


def _problem(
    folder: Path, above: Path, volumes: Sequence[Path], room_bytes: int, most_bytes: int
) -> tuple[str, str] | None:
    """Return what is wrong with the place of copies, and what to do; None if nothing is."""
    name_another = "Name a folder on a local disk that the worker may write with LOCAL_MODEL_CACHE_DIR."
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return "It cannot be written.", name_another
    if any(folder.resolve().is_relative_to(volume.resolve()) for volume in volumes):
        return "It lies on a volume that models are copied from, so the worker does not start.", name_another
    if volumes and all(volume.exists() and volume.stat().st_dev == above.stat().st_dev for volume in volumes):
        return "It is on the same disk as all volumes, so copies bring nothing.", name_another
    if room_bytes < most_bytes + SPARE_BYTES:
        return "The disk is too small for that.", "Lower LOCAL_MODEL_CACHE_GB, or use a larger disk."
    return None
