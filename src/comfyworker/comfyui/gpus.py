"""Which GPUs this machine has, as its drivers say, without torch."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.spawning import spawning

_QUERY = ("index", "name", "driver_version", "memory.total", "memory.used")
_LIMIT_S = 15.0
_MIB = 1024 * 1024
_DEVICES = Path("/dev")
_AMD_DEVICE = "kfd"
_WSL_DEVICE = "dxg"


class Gpu(BaseModel):
    """One GPU of this machine."""

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    driver: str
    memory_bytes: int | None
    """None where the driver does not tell, as on machines whose GPU shares the system's memory."""
    used_bytes: int | None


async def list_nvidia_gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs that nvidia-smi lists; none if there is no nvidia-smi or it fails."""
    try:
        with spawning():
            process = await asyncio.create_subprocess_exec(
                "nvidia-smi",
                f"--query-gpu={','.join(_QUERY)}",
                "--format=csv,noheader,nounits",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
    except OSError:
        return ()
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return ()
    finally:
        # A driver in trouble makes nvidia-smi hang; it must not outlive the question.
        if process.returncode is None:
            process.kill()
    return parse_nvidia_smi(out.decode(errors="replace")) if process.returncode == 0 else ()


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs in nvidia-smi's CSV answer; lines that are no GPU are passed over."""
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_QUERY) or not cells[0].isdigit():
            continue
        index, name, driver, total, used = cells
        gpus.append(
            Gpu(index=int(index), name=name, driver=driver, memory_bytes=_bytes(total), used_bytes=_bytes(used))
        )
    return tuple(gpus)


def has_amd_gpu() -> bool:
    """Tell whether the AMD driver that torch needs (ROCm's) is loaded."""
    return (_DEVICES / _AMD_DEVICE).exists()


def has_gpu() -> bool:
    """Tell whether torch may find a GPU here, by the drivers' device files; starts no process."""
    if sys.platform == "darwin":
        return True
    return has_amd_gpu() or (_DEVICES / _WSL_DEVICE).exists() or any(_DEVICES.glob("nvidia[0-9]*"))


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdigit() else None
