"""What the torch in ComfyUI's environment can do, asked of ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.comfyui.running import CommandFailed, run_command

_LIMIT_S = 120.0
_SCRIPT = """
import json, platform, sys
facts = {"python": platform.python_version()}
try:
    import torch
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    facts.update(torch=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip, devices=devices,
                 can_use_gpu=torch.cuda.is_available())
except Exception as error:
    facts["error"] = type(error).__name__ + ": " + str(error).strip().splitlines()[-1] if str(error) else repr(error)
print(json.dumps(facts))
"""


class TorchFacts(BaseModel):
    """What an interpreter and its torch say of themselves."""

    model_config = ConfigDict(frozen=True)

    python: str
    torch: str | None = None
    """None when torch cannot be imported; `error` then says why."""
    cuda: str | None = None
    """The CUDA that torch was built for."""
    hip: str | None = None
    """The ROCm that torch was built for."""
    can_use_gpu: bool = False
    devices: tuple[str, ...] = ()
    error: str | None = None


async def probe_torch(python: Path) -> TorchFacts | None:
    """Return what `python` and its torch are, or None if that is no Python that can be run."""
    try:
        *_, answer = await run_command([str(python), "-I", "-c", _SCRIPT], limit_s=_LIMIT_S)
        return TorchFacts.model_validate_json(answer)
    except (CommandFailed, ValidationError, ValueError):
        return None
