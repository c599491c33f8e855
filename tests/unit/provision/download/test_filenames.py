"""Names that sources give."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.provision.download._faults import Fault
from comfyworker.provision.download.filenames import is_plain_filename, name_in_header, name_in_path


@given(st.text(max_size=300))
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    """Whatever the name: if it is taken, it is one file right in the folder, and fits a file system."""
    if is_plain_filename(name):
        folder = Path("/models/vae")
        assert (folder / name).resolve().parent == folder
        assert (folder / name).name == name
        assert len(name.encode()) <= 200


@given(st.text(max_size=100))
def test_any_header_gives_a_plain_name_or_none(text: str) -> None:
    """Whatever the header: a name that is given is plain."""
    try:
        name = name_in_header(text)
    except Fault:
        return
    assert name is None or is_plain_filename(name)


@pytest.mark.parametrize(
    ("path", "name"), [("/a/b.safetensors", "b.safetensors"), ("/a/x%20y.gguf", "x y.gguf"), ("/b.pt/", "b.pt")]
)
def test_the_last_part_of_a_path(path: str, name: str) -> None:
    """It is unquoted."""
    assert name_in_path(path) == name


@pytest.mark.parametrize(
    "path", ["", "/", "/download", "/models/123", "/a/..%2Fb.gguf", "/a/.hidden.gguf", "/%00.gguf"]
)
def test_paths_without_a_name(path: str) -> None:
    """Nothing is made up."""
    with pytest.raises(Fault):
        name_in_path(path)
