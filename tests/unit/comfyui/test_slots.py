"""Folders, slots and ports of several ComfyUIs on one machine."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyworker.comfyui import slots
from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.slots import claim_slot, folders_from_args, output_args, reserve_port
from comfyworker.errors import ComfyUINotFound

HOLD = """
import sys
from pathlib import Path
from comfyworker.comfyui.slots import claim_slot, reserve_port
with claim_slot(Path(sys.argv[1])) as slot, reserve_port(int(sys.argv[2])) as port:
    print(slot, port, flush=True)
    sys.stdin.read()
"""
BASE = Path("/base")


@pytest.fixture(autouse=True)
def _own_lock_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the locks of the tester's own workers out of the tests."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "locks"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "locks"))


@pytest.fixture
def bound_port() -> Iterator[int]:
    """Return a port that something else listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), ("/base/input", "/base/output", "/base/temp", "/base/models")),
        (("--output-directory", "/o"), ("/base/input", "/o", "/base/temp", "/base/models")),
        (("--output-directory=/o", "--cpu"), ("/base/input", "/o", "/base/temp", "/base/models")),
        (("--input-directory", "in"), ("/base/in", "/base/output", "/base/temp", "/base/models")),
        (("--temp-directory", "/t"), ("/base/input", "/base/output", "/t/temp", "/base/models")),
        (("--base-directory", "/other"), ("/other/input", "/other/output", "/other/temp", "/other/models")),
        (
            ("--base-directory=sub", "--temp-directory=t"),
            ("/base/sub/input", "/base/sub/output", "/base/t/temp", "/base/sub/models"),
        ),
        (("--listen", "--output-directory", "/o"), ("/base/input", "/o", "/base/temp", "/base/models")),
        (("--output-directory", "/1", "--output-directory", "/2"), ("/base/input", "/2", "/base/temp", "/base/models")),
    ],
)
def test_folders_from_flags(args: tuple[str, ...], expected: tuple[str, str, str, str]) -> None:
    """Both spellings of each flag count, the last one wins, and relative folders lie below the base."""
    given, output, temp, models = (Path(part) for part in expected)
    assert folders_from_args(BASE, args) == Folders(input=given, output=output, temp=temp, models=models)


def test_the_first_slot_uses_the_plain_folders() -> None:
    """One ComfyUI alone gets no flags for folders."""
    assert output_args(folders_from_args(BASE, ()), 0) == ()


@pytest.mark.parametrize(
    ("args", "output", "temp"),
    [
        ((), "/base/output/comfyworker-2", "/base/temp-folders/comfyworker-2"),
        (("--output-directory", "/o"), "/o/comfyworker-2", "/base/temp-folders/comfyworker-2"),
        (("--temp-directory=/t",), "/base/output/comfyworker-2", "/t/temp-folders/comfyworker-2"),
    ],
)
def test_further_slots_keep_to_folders_of_their_own(args: tuple[str, ...], output: str, temp: str) -> None:
    """Also where COMFYUI_ARGS names the folders, no two ComfyUIs write into the same one."""
    added = output_args(folders_from_args(BASE, args), 2)
    assert added == ("--output-directory", output, "--temp-directory", temp)
    assert folders_from_args(BASE, (*args, *added)) == Folders(
        input=Path("/base/input"), output=Path(output), temp=Path(temp) / "temp", models=Path("/base/models")
    )


def test_slots_of_one_worker(tmp_path: Path) -> None:
    """Each claim gets the lowest slot that is free, also in a folder that is not there yet."""
    base = tmp_path / "new" / "base"
    with claim_slot(base) as first:
        with claim_slot(base) as second:
            assert (first, second) == (0, 1)
        with claim_slot(base) as third:
            assert third == 1
    with claim_slot(base) as again:
        assert again == 0


def test_slots_where_the_folder_takes_no_locks(tmp_path: Path) -> None:
    """In a folder that cannot hold a lock, the ComfyUIs of this machine still get slots of their own."""
    base = tmp_path / "file"
    base.write_text("no folder")
    with claim_slot(base) as first, claim_slot(base) as second:
        assert (first, second) == (0, 1)


def test_slots_and_ports_of_another_process(tmp_path: Path, bound_port: int) -> None:
    """What another process has claimed is free again once that is gone, even by SIGKILL."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(bound_port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        slot, port = (int(part) for part in other.stdout.readline().split())
        with claim_slot(tmp_path) as mine, reserve_port(bound_port) as my_port:
            assert (slot, mine) == (0, 1)
            assert bound_port < port < my_port
        other.kill()
    with claim_slot(tmp_path) as mine, reserve_port(bound_port) as my_port:
        assert (mine, my_port) == (0, port)


def test_a_port_that_is_in_use_is_passed_over(bound_port: int) -> None:
    """A port that something listens on is not given out."""
    with reserve_port(bound_port) as port:
        assert port > bound_port


def test_no_port_is_free(bound_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no port is free, the error names the setting."""
    monkeypatch.setattr(slots, "_MOST_SLOTS", 1)
    with pytest.raises(ComfyUINotFound) as caught, reserve_port(bound_port):
        pass
    assert (caught.value.message, caught.value.hint) == (
        f"no port from {bound_port} to {bound_port} is free for ComfyUI",
        "Set COMFYUI_PORT to a free one.",
    )
