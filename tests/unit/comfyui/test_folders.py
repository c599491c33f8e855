"""Folders: from a reported name to a file that is surely ComfyUI's own."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.comfyui.folders import Folders
from comfyworker.errors import DeliveryFailed


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Return three folders that are there."""
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
    return Folders(input=tmp_path / "input", output=tmp_path / "output", temp=tmp_path / "temp")


def test_a_file_in_a_subfolder_is_found(folders: Folders) -> None:
    """The three parts that ComfyUI reports become one path in the right folder."""
    assert folders.resolve("temp", "a/b", "x.png") == folders.temp.resolve() / "a" / "b" / "x.png"


def test_an_unknown_folder_type_is_refused(folders: Folders) -> None:
    """A type that ComfyUI does not have names no folder."""
    with pytest.raises(DeliveryFailed, match="unknown type 'models'"):
        folders.of("models")


@pytest.mark.parametrize(
    ("subfolder", "filename"),
    [
        ("..", "x.png"),
        ("a/../..", "x.png"),
        ("", "../x.png"),
        ("/etc", "passwd"),
        ("", "/etc/passwd"),
        ("", ""),
        ("", "."),
        ("a", ".."),
        ("", "nul\0.png"),
        ("../output-of-another", "x.png"),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(folders: Folders, subfolder: str, filename: str) -> None:
    """Whatever a custom node reports, only files inside ComfyUI's folder are read, delivered and deleted."""
    with pytest.raises(DeliveryFailed):
        folders.resolve("output", subfolder, filename)


def test_a_link_that_leads_out_of_the_folder_is_refused(folders: Folders, tmp_path: Path) -> None:
    """A symbolic link inside the folder is followed before the place is judged."""
    (tmp_path / "secret").write_text("secret")
    (folders.output / "x.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DeliveryFailed):
        folders.resolve("output", "", "x.png")


def test_a_loop_of_links_raises_nothing_foreign(folders: Folders) -> None:
    """A link to itself names no file: it is refused here, or by whoever opens the path (from Python 3.13)."""
    (folders.output / "loop").symlink_to(folders.output / "loop")
    with contextlib.suppress(DeliveryFailed):
        folders.resolve("output", "loop", "x.png")


def test_a_folder_that_is_a_link_itself_is_followed(folders: Folders, tmp_path: Path) -> None:
    """The output folder may be a link to a network volume; its files are inside it all the same."""
    (tmp_path / "link").symlink_to(folders.output)
    linked = folders.model_copy(update={"output": tmp_path / "link"})
    assert linked.resolve("output", "", "x.png") == folders.output.resolve() / "x.png"


def test_an_error_shows_no_folder_of_the_machine(folders: Folders) -> None:
    """The message names what was reported, not where our folders are."""
    with pytest.raises(DeliveryFailed) as caught:
        folders.resolve("output", "", "/srv/private/x.png")
    assert str(folders.output.parent) not in caught.value.message
    assert "/srv/private" not in caught.value.message


@given(subfolder=st.text(max_size=30), filename=st.text(max_size=30))
def test_a_resolved_name_never_leaves_its_folder(subfolder: str, filename: str) -> None:
    """Any two texts give a path below the folder, or an error."""
    base = Path("/nowhere/output")
    folders = Folders(input=base, output=base, temp=base)
    try:
        path = folders.resolve("output", subfolder, filename)
    except DeliveryFailed:
        return
    assert base in path.parents
