"""Overlays: which one belongs to an environment and a tree."""

from pathlib import Path

import pytest

from comfyworker.comfyui.overlay import (
    NOTE_NAME,
    OverlayNote,
    below,
    find_overlay,
    overlay_path,
    torch_of,
    wants_overlay,
)


def make_environment(folder: Path, *packages: str) -> Path:
    """Make something that looks like an environment with these packages, and return its interpreter."""
    for package in packages:
        (folder / f"lib/python3.11/site-packages/{package}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return folder / "bin/python"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return the interpreter of an image's environment."""
    return make_environment(tmp_path / "image/.venv", "torch-2.9.0+cu128", "numpy-2.4.6")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with requirements."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/requirements.txt").write_text("numpy\n")
    return tmp_path / "tree"


def test_it_belongs_to_one_environment_and_one_trees_requirements(base: Path, tree: Path, tmp_path: Path) -> None:
    """Another version of torch, or of any package, another place, or other requirements: another overlay."""
    home = tmp_path / "home"
    first = overlay_path(home, tree, base)
    assert first is not None
    assert first.name.startswith("python3.11-torch2.9.0+cu128-")
    assert overlay_path(home, tree, base) == first
    elsewhere = make_environment(tmp_path / "other/.venv", "torch-2.9.0+cu128", "numpy-2.4.6")
    newer = make_environment(tmp_path / "newer/.venv", "torch-2.10.0+cu128", "numpy-2.4.6")
    seen = {first, overlay_path(home, tree, elsewhere), overlay_path(home, tree, newer)}
    (base.parent.parent / "lib/python3.11/site-packages/tqdm-4.0.dist-info").mkdir()
    seen.add(overlay_path(home, tree, base))
    (tree / "requirements.txt").write_text("numpy\nscipy\n")
    seen.add(overlay_path(home, tree, base))
    assert len(seen) == 5


def test_only_a_whole_one_is_found(base: Path, tree: Path, tmp_path: Path) -> None:
    """Its note is written last; below it is the environment that it was made for."""
    home = tmp_path / "home"
    place = overlay_path(home, tree, base)
    assert place is not None
    python = make_environment(place, "torch-2.9.0+cu128")
    assert find_overlay(home, tree, base) is None
    note = OverlayNote(python=str(base), library="python3.11", torch="2.9.0+cu128")
    (place / NOTE_NAME).write_text(note.model_dump_json())
    assert find_overlay(home, tree, base) == python
    assert (below(python), below(base)) == (base, base)


def test_an_interpreter_of_no_environment_has_none(tree: Path, tmp_path: Path) -> None:
    """Nothing can be laid in front of a system's Python."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    assert overlay_path(tmp_path / "home", tree, tmp_path / "usr/bin/python3") is None


def test_torch_is_told_by_its_note(base: Path, tmp_path: Path) -> None:
    """The version has what it was built for in it."""
    assert torch_of(base.parent.parent / "lib/python3.11/site-packages") == "2.9.0+cu128"
    assert torch_of(tmp_path) is None


def test_one_that_persists_with_its_home_needs_none(tmp_path: Path) -> None:
    """An environment in the home or beside it is written to itself; another tree has its own requirements."""
    home = tmp_path / "volume/ComfyUI"
    assert not wants_overlay(home, home, home / ".venv/bin/python")
    assert not wants_overlay(home, home, tmp_path / "volume/.venv/bin/python")
    assert wants_overlay(home, home, tmp_path / "image/.venv/bin/python")
    assert wants_overlay(home, home / ".comfyworker/trees/v1", home / ".venv/bin/python")
