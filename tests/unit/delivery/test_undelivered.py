"""Files that could not be delivered."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from comfyworker.delivery.undelivered import Undelivered
from support.artifacts import artifact, text_artifact


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a file that a job made."""
    path = tmp_path / "made.png"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """Return a folder on another file system than that of temporary files, to which nothing can be linked."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_file_is_kept_when_its_original_goes(tmp_path: Path, made: Path) -> None:
    """In a folder of the job's own; a text is in the answer, and needs no keeping."""
    undelivered = Undelivered(tmp_path / "kept", keep_s=60)
    assert undelivered.keep("job-1", [artifact(path=made), text_artifact("hello")]) == ("a.png",)
    made.unlink()
    assert (tmp_path / "kept/job-1/a.png").read_bytes() == b"abc"


def test_equal_names_are_numbered(tmp_path: Path, made: Path) -> None:
    """Within a job, and when the same job comes again."""
    undelivered = Undelivered(tmp_path / "kept", keep_s=60)
    assert undelivered.keep("job", [artifact(path=made), artifact(path=made)]) == ("a.png", "a-2.png")
    assert undelivered.keep("job", [artifact(path=made)]) == ("a-3.png",)


def test_a_file_on_another_disk_is_copied(other_disk: Path, made: Path) -> None:
    """Nothing half-copied is left beside it."""
    assert made.stat().st_dev != other_disk.stat().st_dev
    undelivered = Undelivered(other_disk, keep_s=60)
    assert undelivered.keep("job", [artifact(path=made), artifact(path=made)]) == ("a.png", "a-2.png")
    assert {path.name: path.read_bytes() for path in (other_disk / "job").iterdir()} == {
        "a.png": b"abc",
        "a-2.png": b"abc",
    }


def test_a_file_that_is_gone_is_no_fault(tmp_path: Path, made: Path) -> None:
    """The others are kept."""
    undelivered = Undelivered(tmp_path / "kept", keep_s=60)
    gone = artifact("gone.png", path=tmp_path / "gone.png")
    assert undelivered.keep("job", [gone, artifact(path=made)]) == ("a.png",)


def test_a_folder_that_cannot_be_is_no_fault(tmp_path: Path, made: Path) -> None:
    """The job has failed already; it is not told of a second fault instead of the first."""
    (tmp_path / "kept").write_text("a file where the folder should be")
    undelivered = Undelivered(tmp_path / "kept", keep_s=60)
    assert undelivered.keep("job", [artifact(path=made)]) == ()
    undelivered.sweep()


def test_a_folder_that_cannot_be_looked_into_is_no_fault(tmp_path: Path) -> None:
    """A worker that cannot sweep runs all the same."""
    (tmp_path / "kept").symlink_to(tmp_path / "kept")
    Undelivered(tmp_path / "kept", keep_s=60).sweep()


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "日" * 83 + "xx.png", "." + "y" * 254])
def test_the_longest_names_are_kept_also_on_another_disk(
    tmp_path: Path, other_disk: Path, made: Path, name: str
) -> None:
    """Cut where a number has to go in, never lost."""
    assert len(os.fsencode(name)) == 255
    for folder in (tmp_path / "kept", other_disk):
        names = Undelivered(folder, keep_s=60).keep("job", [artifact(name, path=made), artifact(name, path=made)])
        assert len(set(names)) == 2
        assert names[0] == name
        assert sorted(path.name for path in (folder / "job").iterdir()) == sorted(names)


def test_two_jobs_of_one_id_keep_the_files_of_both(other_disk: Path, made: Path) -> None:
    """Also while both are being copied."""
    undelivered = Undelivered(other_disk, keep_s=60)
    with ThreadPoolExecutor(8) as pool:
        kept = [pool.submit(undelivered.keep, "job", [artifact(path=made)] * 20) for _ in range(8)]
    names = [name for job in kept for name in job.result()]
    assert len(names) == len(set(names)) == 160
    assert {path.read_bytes() for path in (other_disk / "job").iterdir()} == {b"abc"}


def test_none_is_kept_if_none_is_wanted(tmp_path: Path, made: Path) -> None:
    """Not even a folder is made."""
    assert Undelivered(tmp_path / "kept", keep_s=0).keep("job", [artifact(path=made)]) == ()
    assert not (tmp_path / "kept").exists()


def test_what_is_old_goes_and_what_is_new_stays(tmp_path: Path, made: Path) -> None:
    """Reckoned from when it was kept, not from when the file was made."""
    os.utime(made, (0, 0))
    undelivered = Undelivered(tmp_path / "kept", keep_s=60)
    undelivered.keep("new", [artifact(path=made)])
    undelivered.keep("old", [artifact(path=made)])
    os.utime(tmp_path / "kept/old", (0, 0))
    undelivered.sweep()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["new"]


def test_nothing_kept_is_nothing_to_sweep(tmp_path: Path) -> None:
    """A worker that never failed has no folder."""
    Undelivered(tmp_path / "kept", keep_s=60).sweep()
    assert not (tmp_path / "kept").exists()
