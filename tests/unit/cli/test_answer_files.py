"""Files inside an answer, saved or shortened."""

import base64
from pathlib import Path
from typing import Any

import pytest

from comfyworker.cli.answer_files import AnswerFiles
from comfyworker.errors import DeliveryFailed
from support.artifacts import artifact

DATA = base64.b64encode(b"a picture").decode()
OTHER = base64.b64encode(b"another").decode()


def noted(*contents: str, name: str = "a.png") -> AnswerFiles:
    """Return the files of an answer that holds these."""
    files = AnswerFiles()
    for content in contents:
        files.note(artifact(name, data=content))
    return files


def test_files_are_saved_wherever_the_answer_has_them(tmp_path: Path) -> None:
    """Dialects differ in where they put the bytes; two files of one name are both kept."""
    answer: dict[str, Any] = {"output": {"images": [{"data": DATA, "type": "base64"}], "plain": [OTHER, "text", 1]}}
    saved = noted(DATA, OTHER).saved(answer, tmp_path / "out")
    first, second = tmp_path / "out/a.png", tmp_path / "out/a-2.png"
    assert saved == {"output": {"images": [{"data": str(first), "type": "base64"}], "plain": [str(second), "text", 1]}}
    assert (first.read_bytes(), second.read_bytes()) == (b"a picture", b"another")
    assert answer["output"]["plain"] == [OTHER, "text", 1]


def test_no_name_leaves_the_folder(tmp_path: Path) -> None:
    """A file's name is a label."""
    noted(DATA, name="../../evil.png").saved({}, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*.png")] == ["evil.png"]
    assert (tmp_path / "out/evil.png").exists()


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    """By its name, not by where it lies."""
    (tmp_path / "file").touch()
    with pytest.raises(DeliveryFailed, match=r"a\.png could not be saved in file: file exists"):
        noted(DATA).saved({}, tmp_path / "file")


def test_a_terminal_is_not_flooded() -> None:
    """A person reads what is there and how to get it."""
    shortened = noted(DATA).shortened({"images": [DATA], "status": "success"})
    assert shortened == {"images": ["(12 characters of base64; --output DIR saves the file)"], "status": "success"}


def test_files_with_a_url_are_left_as_they_are(tmp_path: Path) -> None:
    """They are somewhere else already."""
    files = AnswerFiles()
    files.note(artifact("a.png", url="https://example.com/a.png"))
    answer: dict[str, Any] = {"images": [{"url": "https://example.com/a.png"}]}
    assert files.saved(answer, tmp_path / "out") == answer
    assert not (tmp_path / "out").exists()


def test_what_was_forgotten_is_not_saved_again(tmp_path: Path) -> None:
    """The next job's files are its own."""
    files = noted(DATA)
    files.forget()
    assert files.saved({"data": DATA}, tmp_path / "out") == {"data": DATA}
