"""How a config.yml is applied."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ApplyOptions(BaseModel):
    """What is asked for beside the config itself."""

    model_config = ConfigDict(frozen=True)

    force: bool = False
    """Take nothing from notes: ask every source, read every model file, resolve `latest` and `nightly` again."""
    locked: bool = False
    """Reproduce what the lock file says, or fail."""
    asks_briefly: bool = False
    """Take a host that does not answer for one that cannot be asked, for all that comes from it: for a plan."""
    checks_imports: bool = True
    """Start ComfyUI once after a change of custom nodes, to see whether they load."""
