"""Where models and custom nodes go."""

from pathlib import Path

import pytest

from comfyworker.comfyui.model_places import Origin
from comfyworker.errors import ComfyUINotFound
from comfyworker.provision.place import ProvisionPlace, find_place
from comfyworker.settings import ComfyUISettings, VolumeSettings


@pytest.fixture
def comfyui(tmp_path: Path) -> ComfyUISettings:
    """Lay out a folder that looks like a ComfyUI with an environment."""
    folder = tmp_path / "ComfyUI"
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    (folder / "main.py").touch()
    return ComfyUISettings(path=folder)


def find(comfyui: ComfyUISettings, tmp_path: Path, *, models_path: Path | None = None) -> ProvisionPlace:
    """Return the place, with a network volume at `volume` if that is there."""
    volumes = [(Origin.NETWORK_VOLUME, tmp_path / "volume")]
    return find_place(comfyui, VolumeSettings(models_path=models_path), cwd=tmp_path, volumes=volumes)


def test_without_a_volume_models_go_to_comfyuis_own_folder(comfyui: ComfyUISettings, tmp_path: Path) -> None:
    """What is noted lies beside them, and beside the custom nodes."""
    place = find(comfyui, tmp_path)
    base = tmp_path / "ComfyUI"
    assert (place.models, place.models_state, place.volume) == (base / "models", base / ".comfyworker", None)
    assert (place.custom_nodes, place.nodes_state) == (base / "custom_nodes", base / ".comfyworker")


@pytest.mark.parametrize("tree", ["models", "ComfyUI/models"])
def test_models_go_to_the_volumes_own_folder(comfyui: ComfyUISettings, tmp_path: Path, tree: str) -> None:
    """The one that it has is taken; what is noted of them lies on the volume, of custom nodes beside ComfyUI."""
    (tmp_path / "volume" / tree / "checkpoints").mkdir(parents=True)
    place = find(comfyui, tmp_path)
    assert (place.models, place.volume) == (tmp_path / "volume" / tree, tmp_path / "volume")
    assert place.models_state == tmp_path / "volume/.comfyworker"
    assert place.nodes_state == tmp_path / "ComfyUI/.comfyworker"
    assert place.own_models == tmp_path / "ComfyUI/models"


def test_models_path_goes_before_the_volume(comfyui: ComfyUISettings, tmp_path: Path) -> None:
    """A folder that somebody named is what they want, also before it is there."""
    (tmp_path / "volume/models").mkdir(parents=True)
    place = find(comfyui, tmp_path, models_path=tmp_path / "named")
    assert (place.models, place.models_state) == (tmp_path / "named", tmp_path / "named/.comfyworker")


def test_models_need_no_comfyui_where_there_is_a_volume(tmp_path: Path) -> None:
    """Nodes do, and say so."""
    (tmp_path / "volume/models").mkdir(parents=True)
    place = find(ComfyUISettings(), tmp_path)
    assert place.require_models() == tmp_path / "volume/models"
    with pytest.raises(ComfyUINotFound, match="custom nodes"):
        place.require_installation()


def test_nowhere_to_put_models_is_told(tmp_path: Path) -> None:
    """The error says what can be done."""
    with pytest.raises(ComfyUINotFound, match="nowhere to put models"):
        find(ComfyUISettings(), tmp_path).require_models()
