"""Files written in one step."""

import os
import threading
from pathlib import Path

import pytest

from comfyworker.replacing import replace_file


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_durable", [False, True])
def test_what_was_there_is_replaced(tmp_path: Path, is_durable: bool) -> None:
    """A new file is made, an old one replaced; nothing else is left."""
    path = tmp_path / ".note.json"
    for content in (b"old", b"new"):
        replace_file(path, content, is_durable=is_durable)
        assert path.read_bytes() == content
    assert names(tmp_path) == [".note.json"]


@pytest.mark.parametrize(("mode", "rights"), [(None, 0o640), (0o600, 0o600), (0o644, 0o644)])
def test_its_rights(tmp_path: Path, mode: int | None, rights: int) -> None:
    """Those that are asked for, whatever the process gives to new files; else these."""
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "a", b"", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == rights


def test_what_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    """A folder in its place, or none to write into."""
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "a", b"new")
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "absent/a", b"new")
    assert names(tmp_path) == ["a"]


def test_whoever_reads_finds_one_or_the_other(tmp_path: Path) -> None:
    """Also while several write at the same time."""
    path = tmp_path / "a"
    contents = [letter * 300_000 for letter in (b"a", b"b", b"c")]
    replace_file(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(20):
            replace_file(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    read = set()
    while any(thread.is_alive() for thread in threads):
        read.add(path.read_bytes())
    for thread in threads:
        thread.join()
    assert read <= set(contents)
    assert names(tmp_path) == ["a"]
