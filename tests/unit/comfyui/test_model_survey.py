"""What a survey of a place counts, and what it doubts."""

from pathlib import Path

from comfyworker.comfyui.model_places import ModelPlace, ModelTree, Origin
from comfyworker.comfyui.model_survey import PlaceSurvey, survey_place


def write(path: Path, size_bytes: int = 2000) -> None:
    """Write a file of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size_bytes)


def survey(root: Path, tree: str = "models", *, most_entries: int = 1000) -> PlaceSurvey:
    """Look through a place that has one tree with all folders that are in it."""
    path = root / tree
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir())) if path.is_dir() else ()
    trees = (ModelTree(path=path, folders=names, takes_all=True),)
    place = ModelPlace(root=root, origin=Origin.NETWORK_VOLUME, trees=trees)
    return survey_place(place, most_entries=most_entries)


def doubts(found: PlaceSurvey) -> dict[str, str]:
    """Return what is doubted, by the path within the place."""
    return {str(Path(doubt.path).relative_to(found.place.root)): doubt.text for doubt in found.doubts}


def test_models_are_counted_by_kind(tmp_path: Path) -> None:
    """Subfolders count with their kind; readmes, placeholders and hidden files do not count."""
    for name in ("checkpoints/a.safetensors", "checkpoints/xl/b.ckpt", "checkpoints/README.md", "clip/.x.safetensors"):
        write(tmp_path / "models" / name)
    write(tmp_path / "models/configs/v1.yaml", 10)
    found = survey(tmp_path)
    assert [(folder.kind, folder.files, folder.names) for folder in found.folders] == [
        ("checkpoints", 2, ("a.safetensors", "xl/b.ckpt")),
        ("text_encoders", 0, ()),
        ("configs", 1, ("v1.yaml",)),
    ]
    assert (found.files, found.size_bytes, found.doubts, found.is_complete) == (3, 4010, (), True)


def test_files_that_will_not_load_are_doubted(tmp_path: Path) -> None:
    """Unfinished downloads, archives, pointers in place of files, links to nowhere, and endings of packs."""
    loras = tmp_path / "models/loras"
    for name in ("a.safetensors.part", "b.zip", "good.safetensors"):
        write(loras / name)
    write(loras / "pointer.safetensors", 134)
    write(tmp_path / "models/unet/flux-Q4.gguf")
    write(tmp_path / "models/unet_gguf/flux-Q8.gguf")
    (loras / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    assert doubts(survey(tmp_path)) == {
        "models/loras/a.safetensors.part": "is a download that was not finished",
        "models/loras/b.zip": "is packed",
        "models/loras/gone.safetensors": "is a link that leads nowhere",
        "models/loras/pointer.safetensors": "has only 134 bytes",
        "models/unet/flux-Q4.gguf": "ends in .gguf, which ComfyUI's own loaders do not offer",
    }


def test_models_in_the_wrong_place_are_doubted(tmp_path: Path) -> None:
    """Models at the top or right in `models`, and folders whose names are nearly right, are told with what to do."""
    write(tmp_path / "flux.safetensors")
    write(tmp_path / "notes.txt")
    write(tmp_path / "models/sd.ckpt")
    write(tmp_path / "models/lora/x.safetensors")
    (tmp_path / "outputs").mkdir()
    found = survey(tmp_path)
    assert doubts(found) == {
        "flux.safetensors": "lies in no folder for a kind of model",
        "models/lora": "has no name that ComfyUI knows",
        "models/sd.ckpt": "lies in no folder for a kind of model",
    }
    assert found.doubts[1].advice == "Rename it to loras, if that is what it holds."


def test_a_tree_of_nearly_the_right_name_is_doubted(tmp_path: Path) -> None:
    """A volume with `Models` has its models in a folder that nobody looks into."""
    (tmp_path / "Models/loras").mkdir(parents=True)
    found = survey(tmp_path)
    assert [(doubt.path, doubt.advice) for doubt in found.doubts] == [
        (str(tmp_path / "Models"), "Rename it to models, if that is what it holds.")
    ]


def test_a_large_volume_is_not_walked_to_its_end(tmp_path: Path) -> None:
    """After so many entries it ends, and says that it has not seen all."""
    for number in range(30):
        write(tmp_path / f"models/loras/{number:02}.safetensors")
    found = survey(tmp_path, most_entries=12)
    assert (found.files, found.is_complete) == (10, False)
    assert survey(tmp_path, most_entries=32).is_complete
    assert survey(tmp_path).folders[0].names == tuple(f"{number:02}.safetensors" for number in range(10))


def test_links_in_a_circle_and_odd_names_do_no_harm(tmp_path: Path) -> None:
    """A folder is walked once, however many links lead to it; a name that is no text can still be shown."""
    loras = tmp_path / "models/loras"
    write(loras / "a.safetensors")
    write(Path(f"{loras}/caf\udce9.safetensors"))
    (loras / "again").symlink_to(tmp_path / "models")
    (loras / "itself").symlink_to(loras / "itself")
    [folder] = survey(tmp_path).folders
    assert folder.names == ("a.safetensors", "caf�.safetensors")


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    """A tree that is not there yet has nothing in it."""
    assert survey(tmp_path).folders == ()
