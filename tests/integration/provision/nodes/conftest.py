"""Fixtures of the tests of custom nodes: a ComfyUI with an environment and a base directory of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.nodes import NodePacks
from comfyworker.settings import ProvisionSettings
from support.git_repositories import GitRepository
from support.listening import Listener
from support.node_packages import make_overlay
from support.provisioning import base_folders
from support.real_comfyui import Install


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """Return a base directory for ComfyUI, empty but for what its start needs."""
    return base_folders(tmp_path / "base")


@pytest.fixture
def installation(comfyui_install: Install, base_dir: Path) -> Installation:
    """Return the real ComfyUI, with that base directory."""
    return Installation(path=comfyui_install.path, python=comfyui_install.python, version="0.3.75", base_dir=base_dir)


@pytest.fixture
def overlay(comfyui_install: Install, base_dir: Path, tmp_path: Path) -> Installation:
    """Return the real ComfyUI with an environment that may be written to."""
    python = make_overlay(comfyui_install, tmp_path / "environment")
    return Installation(path=comfyui_install.path, python=python, version="0.3.75", base_dir=base_dir)


@pytest.fixture
def listener() -> Listener:
    """Return a reporter that keeps what it hears."""
    return Listener()


@pytest.fixture
def packs(installation: Installation, listener: Listener) -> NodePacks:
    """Return the custom nodes of that ComfyUI."""
    return NodePacks(installation, ProvisionSettings(), listener)


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    """Return a function that makes an empty repository of a name."""
    return lambda name: GitRepository(tmp_path / "repositories" / name)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels that is all that uv knows: no index, no network, no cache of others."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return folder
