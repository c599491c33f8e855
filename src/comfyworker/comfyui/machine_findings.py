"""What the machine has for ComfyUI: GPUs and room on its disks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from comfyworker.comfyui.finding import Finding, Level, format_bytes
from comfyworker.comfyui.gpus import Gpu, has_amd_gpu
from comfyworker.comfyui.torch_probe import TorchFacts

_GB = 1_000_000_000
_LOW_DISK_BYTES = 5 * _GB
_FULL_DISK_BYTES = _GB // 2


def gpu_finding(found: Sequence[Gpu], facts: TorchFacts | None, *, is_needed: bool = True) -> Finding:
    """Say which GPUs there are, and whether torch can use them.

    Args:
        found: The NVIDIA GPUs.
        facts: What ComfyUI's torch is; None if that is not known.
        is_needed: Whether ComfyUI runs on this machine.
    """
    has_any = bool(found) or has_amd_gpu()
    names = ", ".join(f"{gpu.name} ({_memory(gpu)}, driver {gpu.driver})" for gpu in found) or "AMD GPU"
    listed: dict[str, JsonValue] = {"gpus": [gpu.model_dump(mode="json") for gpu in found]}
    if not has_any and not is_needed:
        text = "No NVIDIA or AMD GPU on this machine; ComfyUI runs elsewhere."
        return Finding(area="gpu", level=Level.OK, text=text, facts=listed)
    if not has_any:
        text = "No NVIDIA or AMD GPU was found; a ComfyUI that is started here runs on CPU, which is slow."
        advice = "For a container, start it with its GPU (docker run --gpus all); for trying things out, go on."
        return Finding(area="gpu", level=Level.WARNING, text=text, advice=advice, facts=listed)
    if facts is not None and facts.torch is not None and not facts.can_use_gpu:
        is_wrong_build = not (facts.cuda or facts.hip)
        return Finding(
            area="gpu",
            level=Level.PROBLEM,
            text=f"{names}, but torch cannot use it.",
            advice="This torch is built without GPU: `comfyworker comfyui install --force --no-cpu` brings another."
            if is_wrong_build
            else "The driver is probably too old for this torch: update it, or make ComfyUI's environment anew with "
            "`comfyworker comfyui install --force`, which takes the torch that fits.",
            facts=listed,
        )
    return Finding(area="gpu", level=Level.OK, text=f"{names}.", facts=listed)


def disk_findings(base_dir: Path | None, cwd: Path) -> list[Finding]:
    """Say what is free where outputs and models lie; both in one line when that is one disk."""
    folders = {"outputs": base_dir / "output", "models": base_dir / "models"} if base_dir else {"working folder": cwd}
    disks: dict[tuple[int, int], list[str]] = {}
    for name, folder in folders.items():
        place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
        usage = shutil.disk_usage(place)
        disks.setdefault((usage.free, usage.total), []).append(name)
    return [_disk_finding(" and ".join(names), *figures) for figures, names in disks.items()]


def _disk_finding(what: str, free_bytes: int, total_bytes: int) -> Finding:
    is_full, is_low = free_bytes < _FULL_DISK_BYTES, free_bytes < _LOW_DISK_BYTES
    return Finding(
        area="disk",
        level=Level.PROBLEM if is_full else Level.WARNING if is_low else Level.OK,
        text=f"{format_bytes(free_bytes)} of {format_bytes(total_bytes)} are free for {what}.",
        advice="Free some space, or move the folders to another disk with COMFYUI_BASE_DIR." if is_low else None,
        facts={"for": what, "free_bytes": free_bytes, "total_bytes": total_bytes},
    )


def _memory(gpu: Gpu) -> str:
    return "memory unknown" if gpu.memory_bytes is None else format_bytes(gpu.memory_bytes)
