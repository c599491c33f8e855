"""Folders for files on their way."""

import os
from pathlib import Path

import pytest

from comfyworker.delivery.spool import Spool


def names_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_a_folder_goes_with_its_job(tmp_path: Path) -> None:
    """With all that is in it, also when the job fails; one that nobody used was never made."""
    spool = Spool(tmp_path)

    async def use(content: bytes | None) -> None:
        async with spool.folder() as folder:
            if content is not None:
                folder.mkdir()
                (folder / "a.png").write_bytes(content)
                raise KeyError

    await use(None)
    with pytest.raises(KeyError):
        await use(b"abc")
    assert names_in(tmp_path) == []


async def test_what_a_killed_worker_left_goes_later(tmp_path: Path) -> None:
    """A folder that is in use stays, and so does what is not ours."""
    spool = Spool(tmp_path)
    old, others = tmp_path / f"comfyworker-{'0' * 32}", tmp_path / "comfyworker-notes"
    for folder in (old, others):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"abc")
        os.utime(folder, (0, 0))
    async with spool.folder() as used:
        used.mkdir()
        spool.sweep()
        assert names_in(tmp_path) == sorted([used.name, others.name])


def test_a_root_that_is_not_there_has_nothing_to_sweep(tmp_path: Path) -> None:
    """It is made with the first folder."""
    Spool(tmp_path / "none").sweep()
