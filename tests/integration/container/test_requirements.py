"""What the image installs for ComfyUI is what that ComfyUI asks for."""

from pathlib import Path

from support.real_comfyui import Install
from support.source import REPOSITORY

_TORCH = {"torch", "torchvision", "torchaudio"}


def asked(path: Path) -> set[str]:
    """Return the lines of a requirements file that name a package."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith(("#", "-"))}


def test_the_list_beside_the_lock_is_comfyuis(comfyui_install: Install) -> None:
    """The same packages with the same limits; torch and its kin are pinned there, and pip is there for custom nodes."""
    ours = asked(REPOSITORY / "requirements/comfyui.in")
    theirs = asked(comfyui_install.path / "requirements.txt")
    assert ours - theirs == {"torch==2.10.0", "torchvision==0.25.0", "torchaudio==2.10.0", "pip", "setuptools<81"}
    assert theirs - ours == _TORCH
