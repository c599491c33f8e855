"""The note that an install leaves: what counts as whole, and what does not."""

from pathlib import Path

import pytest

from comfyworker.comfyui.install_record import (
    UNFINISHED_NAME,
    WHOLE_NAME,
    FolderState,
    InstallRecord,
    read_record,
    read_state,
    write_unfinished,
    write_whole,
)

RECORD = InstallRecord(source="package", ref="v0.3.75", is_cpu=True, interpreter="/usr/bin/python3", done=("tree",))


@pytest.mark.parametrize(
    ("names", "state"),
    [
        ([], FolderState.EMPTY),
        (["models", "output", ".comfyworker-install.lock"], FolderState.EMPTY),
        (["models", "custom_nodes", ".comfyworker"], FolderState.EMPTY),
        (["main.py", UNFINISHED_NAME], FolderState.UNFINISHED),
        (["main.py", UNFINISHED_NAME, WHOLE_NAME], FolderState.UNFINISHED),
        ([UNFINISHED_NAME], FolderState.UNFINISHED),
        (["main.py", WHOLE_NAME], FolderState.WHOLE),
        (["main.py"], FolderState.FOREIGN),
        (["letters.txt"], FolderState.OTHER),
        (["models", "letters.txt"], FolderState.OTHER),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, names: list[str], state: FolderState) -> None:
    """The note of an unfinished install beats everything else; data folders alone leave a folder free to use."""
    for name in names:
        (tmp_path / name).touch()
    assert read_state(tmp_path) is state


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """An install may begin where nothing is."""
    assert read_state(tmp_path / "none") is FolderState.EMPTY


def test_a_file_is_something_else(tmp_path: Path) -> None:
    """A file cannot become ComfyUI's folder."""
    (tmp_path / "file").touch()
    assert read_state(tmp_path / "file") is FolderState.OTHER


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Writing and reading a note gives the same record."""
    write_unfinished(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


def test_finishing_leaves_one_note(tmp_path: Path) -> None:
    """A finished install leaves the note of a whole one and nothing else."""
    write_unfinished(tmp_path, RECORD)
    write_whole(tmp_path, RECORD)
    assert [entry.name for entry in tmp_path.iterdir()] == [WHOLE_NAME]


def test_beginning_anew_takes_the_finished_note_away(tmp_path: Path) -> None:
    """While a whole install is made anew, no note says that it is whole."""
    write_whole(tmp_path, RECORD)
    write_unfinished(tmp_path, RECORD)
    assert [entry.name for entry in tmp_path.iterdir()] == [UNFINISHED_NAME]


@pytest.mark.parametrize("content", ["", "{", '{"source": 3}'])
def test_a_damaged_note_is_no_record(tmp_path: Path, content: str) -> None:
    """A note that cannot be read still marks the folder as unfinished, but tells nothing."""
    (tmp_path / UNFINISHED_NAME).write_text(content)
    assert (read_state(tmp_path), read_record(tmp_path)) == (FolderState.UNFINISHED, None)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [({"done": (), "torch": "2"}, True), ({"ref": "v0.3.64"}, False), ({"is_cpu": False}, False)],
)
def test_what_counts_as_the_same_request(changes: dict[str, object], is_same: bool) -> None:
    """What an interrupted install has done serves another only if both ask for the same."""
    assert RECORD.is_same_request(RECORD.model_copy(update=changes)) is is_same
