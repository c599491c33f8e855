"""What there is to say about a ComfyUI's model files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from comfyworker.comfyui.finding import Finding, Level, format_bytes
from comfyworker.comfyui.model_folders import (
    EXTRA_PATHS_NAME,
    ModelFolder,
    UnreadableExtraPaths,
    list_model_folders,
    read_extra_paths,
)


async def model_findings(path: Path, base_dir: Path, python: Path | None, *, files_elsewhere: int = 0) -> list[Finding]:
    """Say which models the ComfyUI in `path` has, and what is wrong with its extra_model_paths.yaml.

    Args:
        path: The folder that holds main.py.
        base_dir: The folder that holds models.
        python: ComfyUI's interpreter, which reads the YAML; None leaves that file out.
        files_elsewhere: How many model files lie on volumes.
    """
    folders = await asyncio.to_thread(list_model_folders, base_dir / "models")
    findings = []
    extra: tuple[ModelFolder, ...] = ()
    if python is not None:
        try:
            extra = await read_extra_paths(path, python)
        except UnreadableExtraPaths as error:
            text = f"{EXTRA_PATHS_NAME} cannot be read: {error}."
            advice = "ComfyUI does not start with it: correct the file, or take it away."
            findings.append(Finding(area="models", level=Level.PROBLEM, text=text, advice=advice))
    for folder in extra:
        if not folder.exists:
            text = f"{EXTRA_PATHS_NAME} names {folder.path} for {folder.name}, which is not there."
            advice = "Correct the path, or mount the volume that holds it."
            findings.append(Finding(area="models", level=Level.WARNING, text=text, advice=advice))
    return [_models_finding(base_dir / "models", [*folders, *extra], files_elsewhere), *findings]


def _models_finding(path: Path, folders: Sequence[ModelFolder], files_elsewhere: int) -> Finding:
    filled = [folder for folder in folders if folder.files and folder.name != "configs"]
    facts: dict[str, JsonValue] = {
        "path": str(path),
        "folders": [folder.model_dump(mode="json") for folder in folders],
    }
    if not filled and files_elsewhere:
        text = f"There are no model files in {path}; those on volumes are used."
        return Finding(area="models", level=Level.OK, text=text, facts=facts)
    if not filled:
        text = f"There are no model files in {path}."
        advice = "Put checkpoints and other models there; workflows that need none run without."
        return Finding(area="models", level=Level.WARNING, text=text, advice=advice, facts=facts)
    parts = [f"{folder.name} {folder.files} ({format_bytes(folder.size_bytes)})" for folder in filled]
    total_bytes = sum(folder.size_bytes for folder in filled)
    count = sum(folder.files for folder in filled)
    text = f"{count} model files, {format_bytes(total_bytes)}: {', '.join(parts)}."
    return Finding(area="models", level=Level.OK, text=text, facts=facts)
