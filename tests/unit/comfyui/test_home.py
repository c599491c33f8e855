"""Homes of a ComfyUI: which folder a setting means, and which tree of code is current."""

from pathlib import Path

import pytest

from comfyworker.comfyui.home import (
    HomeRecord,
    TreeRecord,
    choose_home,
    current_tree,
    is_home,
    read_home,
    trees_folder,
    write_home,
)
from comfyworker.comfyui.install_record import (
    HOME_NOTE,
    FolderState,
    InstallRecord,
    read_record,
    read_state,
    write_unfinished,
)
from comfyworker.comfyui.locate import Location, locate_comfyui, read_version, refresh_comfyui, require_comfyui
from comfyworker.comfyui.model_places import Origin
from comfyworker.errors import ComfyUINotFound
from comfyworker.settings import ComfyUISettings


def make_tree(folder: Path, version: str) -> Path:
    """Make a folder with a ComfyUI's code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def make_home(folder: Path) -> Path:
    """Make a home with two trees, of which the second is current."""
    for version in ("0.3.75", "0.3.76"):
        make_tree(trees_folder(folder) / version, version)
    write_home(folder, HomeRecord(current=TreeRecord(name="0.3.76"), previous=TreeRecord(name="0.3.75")))
    return folder


def make_python(environment: Path) -> Path:
    """Make something that counts as an environment's interpreter."""
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").write_text("")
    return environment / "bin/python"


@pytest.mark.parametrize("home", [None, "image"])
def test_it_runs_from_where_it_is_unless_asked_otherwise(home: str | None, tmp_path: Path) -> None:
    """Without COMFYUI_HOME, and with `image`, there is no home to place it in."""
    assert choose_home(ComfyUISettings(home=home), cwd=tmp_path) is None


def test_volume_is_the_first_that_there_is(tmp_path: Path) -> None:
    """A network volume that is not mounted does not count; a pod's folder does; else it is the working directory's."""
    settings = ComfyUISettings(home="volume")
    (tmp_path / "network").mkdir()
    volumes = [(Origin.NETWORK_VOLUME, tmp_path / "network"), (Origin.POD_VOLUME, tmp_path / "pod")]
    assert choose_home(settings, cwd=tmp_path, volumes=volumes) == tmp_path / "workspace/ComfyUI"
    (tmp_path / "pod").mkdir()
    assert choose_home(settings, cwd=tmp_path, volumes=volumes) == tmp_path / "pod/ComfyUI"
    mounted = [(Origin.NETWORK_VOLUME, Path("/proc")), *volumes]
    assert choose_home(settings, cwd=tmp_path, volumes=mounted) == Path("/proc/ComfyUI")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """A relative one lies below the working directory."""
    assert choose_home(ComfyUISettings(home="data/Comfy"), cwd=tmp_path) == tmp_path / "data/Comfy"


def test_the_current_tree_is_what_the_note_says(tmp_path: Path) -> None:
    """Without a note, or with one that cannot be read, the code is in the folder itself."""
    home = make_home(tmp_path / "home")
    assert (current_tree(home), is_home(home)) == (trees_folder(home) / "0.3.76", True)
    (home / HOME_NOTE).write_text("{")
    assert (read_home(home), current_tree(home), is_home(home)) == (None, home, False)
    plain = make_tree(tmp_path / "plain", "0.3.75")
    assert (read_home(plain), current_tree(plain), is_home(plain)) == (None, plain, True)


def test_an_unfinished_install_is_no_home(tmp_path: Path) -> None:
    """What was interrupted is never started."""
    folder = make_tree(tmp_path, "0.3.75")
    write_unfinished(folder, InstallRecord(source="package", is_cpu=True))
    assert not is_home(folder)


def test_an_install_leaves_a_home_alone(tmp_path: Path) -> None:
    """A folder with versions is nothing that an install may begin in."""
    home = make_home(tmp_path)
    assert read_state(home) is FolderState.HOME
    assert read_record(home) is None


def test_a_home_is_located_by_its_setting(tmp_path: Path) -> None:
    """COMFYUI_PATH goes before; an empty home is no ComfyUI, and no known place is taken instead."""
    home = make_home(tmp_path / "home")
    settings = ComfyUISettings(home=str(home))
    assert locate_comfyui(settings, cwd=tmp_path) == Location(origin="COMFYUI_HOME", path=home)
    other = make_tree(tmp_path / "other", "0.3.70")
    named = settings.model_copy(update={"path": other})
    assert locate_comfyui(named, cwd=tmp_path) == Location(origin="COMFYUI_PATH", path=other)
    make_tree(tmp_path / "workspace/ComfyUI", "0.3.70")
    empty = ComfyUISettings(home=str(tmp_path / "empty"))
    assert locate_comfyui(empty, cwd=tmp_path).origin == "none"
    with pytest.raises(ComfyUINotFound):
        require_comfyui(empty, cwd=tmp_path)


def test_the_image_comes_before_known_places(tmp_path: Path) -> None:
    """Without COMFYUI_HOME the image's own is run, with its environment."""
    make_tree(tmp_path / "workspace/ComfyUI", "0.3.70")
    image = make_tree(tmp_path / "image", "0.3.75")
    python = make_python(image / ".venv")
    settings = ComfyUISettings(image_path=image)
    assert locate_comfyui(settings, cwd=tmp_path) == Location(origin="COMFYUI_IMAGE_PATH", path=image)
    found = require_comfyui(settings, cwd=tmp_path)
    assert (found.path, found.python, found.image_models) == (image, python, None)


def test_a_home_is_started_with_the_environment_of_the_image(tmp_path: Path) -> None:
    """Its data folders are the home's, its code the current tree's; models of the image are searched too."""
    image, home = make_tree(tmp_path / "image", "0.3.75"), make_home(tmp_path / "home")
    python = make_python(image / ".venv")
    (image / "models").mkdir()
    found = require_comfyui(ComfyUISettings(home=str(home), image_path=image), cwd=tmp_path)
    assert (found.path, found.version) == (trees_folder(home) / "0.3.76", "0.3.76")
    assert (found.base_dir, found.home, found.python) == (home, home, python)
    assert found.image_models == image / "models"


def test_an_installation_follows_its_home(tmp_path: Path) -> None:
    """Read again, it is the tree that has become current meanwhile, also where there was none beside the folder."""
    home = make_tree(tmp_path / "home", "0.3.74")
    make_python(home / ".venv")
    before = require_comfyui(ComfyUISettings(path=home), cwd=tmp_path)
    assert refresh_comfyui(before).path == home
    make_home(home)
    after = refresh_comfyui(before)
    assert (after.path, after.version, after.home) == (trees_folder(home) / "0.3.76", "0.3.76", home)
    write_home(home, HomeRecord(current=TreeRecord(name=".")))
    assert (refresh_comfyui(after).path, read_version(refresh_comfyui(after).path)) == (home, "0.3.74")
