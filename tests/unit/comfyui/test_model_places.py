"""Where models are looked for, and in which layouts they are found."""

from pathlib import Path

import pytest

from comfyworker.comfyui.model_places import ModelPlace, ModelTree, Origin, find_model_places
from comfyworker.settings import VolumeSettings


def make(root: Path, *folders: str) -> Path:
    """Make `root` and folders below it; return it."""
    root.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


def find(tmp_path: Path, *, models_path: Path | None = None, own: str = "none") -> tuple[ModelPlace, ...]:
    """Look for places with volumes at `runpod-volume` and `pod` below `tmp_path`, in whose `cwd` we work."""
    volumes = ((Origin.NETWORK_VOLUME, tmp_path / "runpod-volume"), (Origin.POD_VOLUME, tmp_path / "pod"))
    settings = VolumeSettings(models_path=models_path)
    return find_model_places(settings, cwd=tmp_path / "cwd", own_models=tmp_path / own, volumes=volumes)


def trees(place: ModelPlace) -> dict[str, tuple[str, ...]]:
    """Return the folders of each tree, by the tree's path in the place."""
    assert place.problem is None
    return {str(tree.path.relative_to(place.root)): tree.folders for tree in place.trees}


def test_no_volume_is_said(tmp_path: Path) -> None:
    """Where nothing is mounted, only the network volume is told of, with its problem."""
    [place] = find(tmp_path)
    assert (place.origin, place.problem, place.trees) == (Origin.NETWORK_VOLUME, "it is not there", ())


@pytest.mark.parametrize("content", [(), (".cache",), ("comfyworker",), ("lost+found", "comfyworker-state")])
def test_an_empty_folder_is_no_volume(tmp_path: Path, content: tuple[str, ...]) -> None:
    """A folder of the image that holds nothing, or only what is ours, is no volume."""
    make(tmp_path / "runpod-volume", *content)
    [place] = find(tmp_path)
    assert place.problem == "it is an empty folder: no volume is mounted there"


def test_a_mounted_volume_may_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted is a volume; models may come into its `models`."""
    root = make(tmp_path / "runpod-volume")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == root)
    [place] = find(tmp_path)
    assert (place.is_mounted, trees(place)) == (True, {"models": ()})


@pytest.mark.parametrize(
    "tree", ["models", "ComfyUI/models", "runpod-slim/ComfyUI/models", "madapps/ComfyUI/models", "runpod-volume/models"]
)
def test_a_tree_of_models_is_found(tmp_path: Path, tree: str) -> None:
    """Each of the usual folders is found, with all that is in it but hidden folders, files and custom nodes."""
    root = make(tmp_path / "runpod-volume", f"{tree}/loras", f"{tree}/our-own", f"{tree}/.x", f"{tree}/custom_nodes")
    (root / tree / "a.safetensors").touch()
    [place] = find(tmp_path)
    assert trees(place) == {tree: ("loras", "our-own")}
    assert place.trees[0].takes_all


def test_kinds_at_the_root(tmp_path: Path) -> None:
    """Of kinds at the top of a volume (a bucket's layout) those are taken whose names are known."""
    make(tmp_path / "runpod-volume", "diffusion_models", "ipadapter", "clip", "outputs", "venv")
    [place] = find(tmp_path)
    assert trees(place) == {".": ("clip", "diffusion_models", "ipadapter")}
    assert not place.trees[0].takes_all


def test_common_names_make_no_layout(tmp_path: Path) -> None:
    """A folder `configs` at the top says nothing; such a volume still has a place for models to come."""
    make(tmp_path / "runpod-volume", "configs", "datasets")
    assert trees(find(tmp_path)[0]) == {"models": ()}


def test_several_layouts_on_one_volume(tmp_path: Path) -> None:
    """All of them are taken, trees before the top."""
    make(tmp_path / "runpod-volume", "ComfyUI/models/vae", "models/loras", "checkpoints")
    assert list(trees(find(tmp_path)[0])) == ["models", "ComfyUI/models", "."]


def test_comfyuis_own_models_are_left_out(tmp_path: Path) -> None:
    """The models of a ComfyUI that lies on the volume are its own, also by way of a link."""
    make(tmp_path / "runpod-volume", "ComfyUI/models/vae")
    (tmp_path / "own").symlink_to(tmp_path / "runpod-volume/ComfyUI/models")
    assert trees(find(tmp_path, own="runpod-volume/ComfyUI/models")[0]) == {}
    assert trees(find(tmp_path, own="own")[0]) == {}


def test_a_pods_volume_counts_where_it_has_models(tmp_path: Path) -> None:
    """`/workspace` is a common name: without models it is not mentioned, and as a link it is the same volume."""
    pod = make(tmp_path / "pod", "project")
    assert [place.origin for place in find(tmp_path)] == [Origin.NETWORK_VOLUME]
    make(pod, "models/vae")
    assert [place.root for place in find(tmp_path) if place.problem is None] == [pod]
    (tmp_path / "runpod-volume").symlink_to(pod)
    [place] = find(tmp_path)
    assert (place.origin, trees(place)) == (Origin.NETWORK_VOLUME, {"models": ("vae",)})


def test_models_path_is_a_folder_of_kinds_or_holds_one(tmp_path: Path) -> None:
    """Of MODELS_PATH every folder is a kind, unless models lie deeper in it as on a volume."""
    flat = make(tmp_path / "flat", "loras", "our-own")
    volume = make(tmp_path / "volume", "models/loras", "our-own")
    empty = make(tmp_path / "empty")
    assert trees(find(tmp_path, models_path=flat)[0]) == {".": ("loras", "our-own")}
    assert trees(find(tmp_path, models_path=volume)[0]) == {"models": ("loras",)}
    assert trees(find(tmp_path, models_path=empty)[0]) == {".": ()}


def test_models_path_comes_first_and_is_relative_to_where_we_work(tmp_path: Path) -> None:
    """What was named is searched before what was found."""
    make(tmp_path / "cwd/more", "loras")
    make(tmp_path / "runpod-volume", "models/loras")
    places = find(tmp_path, models_path=Path("more"))
    assert [(place.origin, place.root) for place in places] == [
        (Origin.MODELS_PATH, tmp_path / "cwd/more"),
        (Origin.NETWORK_VOLUME, tmp_path / "runpod-volume"),
    ]


def test_a_wrong_models_path_is_a_problem(tmp_path: Path) -> None:
    """What was named and cannot be used is never passed over: missing, a file, a link to nowhere."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    problems = {name: find(tmp_path, models_path=tmp_path / name)[0].problem for name in ("none", "file", "link")}
    assert problems == {"none": "it is not there", "file": "it is no folder", "link": "it is not there"}


def test_the_workspace_counts_where_there_is_nothing_else(tmp_path: Path) -> None:
    """`./workspace` is looked at last, and only if it holds models that are not ComfyUI's own."""
    make(tmp_path / "cwd/workspace", "ComfyUI/models/vae")
    assert [place.origin for place in find(tmp_path)] == [Origin.NETWORK_VOLUME, Origin.WORKSPACE]
    assert find(tmp_path, own="cwd/workspace/ComfyUI/models")[1:] == ()
    make(tmp_path / "runpod-volume", "models")
    assert [place.origin for place in find(tmp_path)] == [Origin.NETWORK_VOLUME]


def test_links_in_a_circle_and_odd_names_do_no_harm(tmp_path: Path) -> None:
    """A folder that is a link to itself is none, and a name that is no text is left out."""
    root = make(tmp_path / "more", "loras")
    (root / "vae").symlink_to(root / "vae")
    (root / "up").symlink_to(root)
    Path(str(root) + "/caf\udce9").mkdir()
    tree = ModelTree(path=root, folders=("loras", "up"), takes_all=True)
    assert find(tmp_path, models_path=root)[0].trees == (tree,)


def test_the_image_is_searched_last(tmp_path: Path) -> None:
    """Models that a container's image brings are found by a ComfyUI elsewhere; by its own they need no mention."""
    image, named = tmp_path / "image/models", tmp_path / "named"
    for folder in (image / "checkpoints", named / "loras"):
        folder.mkdir(parents=True)
    settings = VolumeSettings(models_path=named)
    found = find_model_places(settings, cwd=tmp_path, own_models=None, image_models=image, volumes=())
    assert [place.origin for place in found] == [Origin.MODELS_PATH, Origin.IMAGE]
    assert found[1].trees == (ModelTree(path=image, folders=("checkpoints",), takes_all=True),)
    own = find_model_places(settings, cwd=tmp_path, own_models=image, image_models=image, volumes=())
    assert [place.origin for place in own] == [Origin.MODELS_PATH]
