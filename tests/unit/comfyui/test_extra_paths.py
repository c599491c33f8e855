"""The file that tells ComfyUI of more model folders."""

import stat
from pathlib import Path

from comfyworker.comfyui.extra_paths import list_extra_paths, render_extra_paths, write_extra_paths
from comfyworker.comfyui.model_kinds import CORE_KINDS
from comfyworker.comfyui.model_places import ModelPlace, ModelTree, Origin


def place(*trees: ModelTree) -> ModelPlace:
    """Return a place with these trees."""
    return ModelPlace(root=Path("/volume"), origin=Origin.NETWORK_VOLUME, trees=trees)


def tree(path: Path, *folders: str) -> ModelTree:
    """Return a tree with these folders."""
    return ModelTree(path=path, folders=folders, takes_all=True)


def test_comfyuis_own_kinds_are_all_there(tmp_path: Path) -> None:
    """They are named whether their folders exist or not, with both names of those that have two."""
    found = list_extra_paths([place(tree(Path("/volume/models")))], own_models=tmp_path)
    assert found == {
        kind: tuple(Path("/volume/models") / folder for folder in folders) for kind, folders in CORE_KINDS.items()
    }
    assert found["text_encoders"] == (Path("/volume/models/text_encoders"), Path("/volume/models/clip"))


def test_the_order_of_the_places_is_kept(tmp_path: Path) -> None:
    """What comes first is searched first, and nothing is named twice."""
    places = [place(tree(Path("/a")), tree(Path("/b"))), place(tree(Path("/a")))]
    assert list_extra_paths(places, own_models=tmp_path)["loras"] == (Path("/a/loras"), Path("/b/loras"))


def test_a_packs_kind_keeps_comfyuis_own_folder(tmp_path: Path) -> None:
    """A pack that finds its kind taken may not add ComfyUI's own folder: so that comes first, where it is."""
    own, volume = tmp_path / "own", tmp_path / "volume"
    for folder in (own / "ipadapter", own / "ultralytics/bbox", volume / "ultralytics/bbox", volume / "ultralytics/x"):
        folder.mkdir(parents=True)
    found = list_extra_paths([place(tree(volume, "ipadapter", "our-own", "ultralytics"))], own_models=own)
    others = {kind: paths for kind, paths in found.items() if kind not in CORE_KINDS}
    assert others == {
        "ipadapter": (own / "ipadapter", volume / "ipadapter"),
        "our-own": (volume / "our-own",),
        "ultralytics": (own / "ultralytics", volume / "ultralytics"),
        "ultralytics_bbox": (own / "ultralytics/bbox", volume / "ultralytics/bbox"),
    }


def test_nothing_to_say_is_no_file() -> None:
    """Without folders there is no text."""
    assert list_extra_paths([], own_models=Path("/own")) == {}
    assert render_extra_paths({}) == ""


def test_the_text() -> None:
    """Each kind is one quoted string with a folder a line; what was renamed once bears both names."""
    paths = {"text_encoders": [Path("/v/text_encoders"), Path("/v/clip")], "loras": [Path('/a: "b"\\ü')]}
    assert render_extra_paths(paths) == (
        "# Written by comfyworker at its start; changes are lost.\n"
        "comfyworker:\n"
        '  "text_encoders": "/v/text_encoders\\u000a/v/clip"\n'
        '  "loras": "/a: \\"b\\"\\\\\\u00fc"\n'
        '  "clip": "/v/text_encoders\\u000a/v/clip"\n'
    )


def test_what_cannot_be_written_is_left_out() -> None:
    """A line break in a name would be two folders for ComfyUI, and bytes that are no text cannot be quoted."""
    paths = {"loras": [Path("/a\nb"), Path("/caf\udce9"), Path("/good")], "vae": [Path("/a\nb")]}
    assert render_extra_paths(paths).splitlines()[2:] == ['  "loras": "/good"']


def test_the_file_is_named_after_its_content(tmp_path: Path) -> None:
    """The same text is the same file, another text another one; nothing half written is left."""
    folder = tmp_path / "state/comfyui"
    paths = [write_extra_paths(text, folder) for text in ("a: 1\n", "a: 2\n", "a: 1\n")]
    assert paths[0] == paths[2] != paths[1]
    assert sorted(folder.iterdir()) == sorted(set(paths))
    assert [path.read_text() for path in paths] == ["a: 1\n", "a: 2\n", "a: 1\n"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_state_folder_it_goes_elsewhere(tmp_path: Path) -> None:
    """Where the folder cannot be made, the file lies in a new one for temporary files."""
    (tmp_path / "state").touch()
    path = write_extra_paths("a: 1\n", tmp_path / "state/comfyui")
    assert path.read_text() == "a: 1\n"
    assert not path.is_relative_to(tmp_path / "state")
    path.unlink()
    path.parent.rmdir()
