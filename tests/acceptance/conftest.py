"""Fixtures for tests through the command line and real sockets."""

from pathlib import Path

import pytest

from support.real_comfyui import RealComfyUI, shared_comfyui
from support.stash import ENVIRON, OWNER_PID


@pytest.fixture(scope="session")
def _shared_comfyui(pytestconfig: pytest.Config, _shared_dir: Path) -> RealComfyUI:
    """Start a second ComfyUI for these tests: two workers of pytest-xdist then have one each, and do not wait."""
    folder = _shared_dir / "acceptance"
    folder.mkdir(exist_ok=True)
    return shared_comfyui(folder, pytestconfig.stash[OWNER_PID], pytestconfig.stash[ENVIRON])
