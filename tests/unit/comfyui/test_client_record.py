"""Files that tell of client ids in use, and of those whose workers were killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comfyworker.comfyui import client_record
from comfyworker.comfyui.client_record import ClientRecord, take_dead_records, write_record

URL = "http://user:secret@comfyui:8188"
HOLD = """
import sys
from pathlib import Path
from comfyworker.comfyui.client_record import write_record
record = write_record(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
print("held", flush=True)
sys.stdin.read()
"""


def dead(folder: Path, url: str = URL) -> list[str]:
    """Return the client ids of dead workers, and leave them to be found again."""
    records = take_dead_records(folder, url)
    for record in records:
        record.release()
    return [record.client_id for record in records]


def leave(folder: Path, client_id: str = "one") -> Path:
    """Leave a record as a killed worker does; return its file."""
    write_record(folder, URL, client_id).release()
    (path,) = folder.glob(f"*.{client_id}")
    return path


def test_a_killed_worker_is_found_and_a_living_one_is_not(tmp_path: Path) -> None:
    """The record of a process is dead when the process has been killed, not before."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), URL, "one"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        while_it_lives = dead(tmp_path)
        process.kill()
    assert (while_it_lives, dead(tmp_path)) == ([], ["one"])


def test_only_one_takes_a_dead_record(tmp_path: Path) -> None:
    """What one worker has taken, another one does not find until it is released."""
    leave(tmp_path)
    (record,) = take_dead_records(tmp_path, URL)
    assert dead(tmp_path) == []
    record.release()
    assert dead(tmp_path) == ["one"]


def test_a_removed_record_is_gone(tmp_path: Path) -> None:
    """A worker that ends with nothing left behind leaves no file."""
    write_record(tmp_path, URL, "one").remove()
    assert list(tmp_path.iterdir()) == []


def test_each_comfyui_has_its_own(tmp_path: Path) -> None:
    """Records tell of one ComfyUI each, which they do not name; a slash at the end of its URL means nothing."""
    leave(tmp_path)
    assert (dead(tmp_path, "http://other:8188"), dead(tmp_path, f"{URL}/")) == ([], ["one"])
    (path,) = tmp_path.iterdir()
    assert "secret" not in path.name + path.read_text(encoding="utf-8")


def test_no_folder_has_no_records(tmp_path: Path) -> None:
    """Before the first worker there is nothing to find."""
    assert take_dead_records(tmp_path / "none", URL) == ()


@pytest.mark.parametrize(
    ("host", "boot_id", "expected"),
    [("here", "another", ["one"]), ("container", "boot", ["one"]), ("there", "another", []), ("there", "", [])],
    ids=["restarted machine", "another container", "another machine", "unknown kernel"],
)
def test_locks_are_believed_where_they_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, boot_id: str, expected: list[str]
) -> None:
    """A record counts as dead only if it was locked where we would see the lock."""
    pretend_to_be(monkeypatch, tmp_path, host, boot_id)
    leave(tmp_path / "records")
    pretend_to_be(monkeypatch, tmp_path, "here", "boot")
    assert dead(tmp_path / "records") == expected


def pretend_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, boot_id: str) -> None:
    """Be on another machine from now on."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    monkeypatch.setattr(client_record, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text(boot_id, encoding="ascii")


def test_a_worker_that_has_just_begun_is_not_dead(tmp_path: Path) -> None:
    """A file that has no content yet belongs to a worker that is about to lock it."""
    leave(tmp_path).write_bytes(b"")
    assert dead(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_what_nobody_can_use_is_forgotten(tmp_path: Path) -> None:
    """After a month a record that tells nothing is removed."""
    path = leave(tmp_path)
    path.write_bytes(b"")
    os.utime(path, (time.time() - 40 * 86400,) * 2)
    assert dead(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_gets_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock a worker that lives would look dead, so there is no record either."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="not supported"):
        write_record(tmp_path, URL, "one")
    assert list(tmp_path.iterdir()) == []


def test_its_client_id_is_read_from_the_name(tmp_path: Path) -> None:
    """A client id with dots in it comes back whole."""
    record: ClientRecord = write_record(tmp_path, URL, "a.b.c")
    record.release()
    assert dead(tmp_path) == ["a.b.c"]
