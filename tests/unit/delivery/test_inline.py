"""Inline: a file as base64, with hardly more memory than the text takes."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.delivery.inline import encode_file
from comfyworker.errors import DeliveryFailed

MEASURE = """
import sys
from pathlib import Path
from comfyworker.delivery.inline import encode_file

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

before = resident("VmRSS")
text = encode_file(Path(sys.argv[1]))
print(resident("VmHWM") - before)
"""


@given(data=st.binary(max_size=100), chunks=st.integers(1, 10))
def test_the_text_is_the_files_base64(tmp_path_factory: pytest.TempPathFactory, data: bytes, chunks: int) -> None:
    """Whatever the file's size and the pieces' size, the pieces join without a seam."""
    path = tmp_path_factory.mktemp("artifact") / "a.bin"
    path.write_bytes(data)
    assert encode_file(path, chunk_bytes=3 * chunks) == base64.b64encode(data).decode()


def test_a_large_file_comes_out_whole(tmp_path: Path) -> None:
    """The beginning of a large file goes another way; it fits to the rest."""
    path = tmp_path / "a.bin"
    data = bytes(range(251)) * 240_000
    path.write_bytes(data)
    assert base64.b64decode(encode_file(path)) == data


@pytest.mark.parametrize("size_bytes", [30_000_000, 100_000_000])
def test_memory_stays_near_the_text(tmp_path: Path, size_bytes: int) -> None:
    """N bytes add less than 1.7 N at the peak, of which the text itself is 1.33 N."""
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.truncate(size_bytes)
    command = [sys.executable, "-c", MEASURE, str(path)]
    added = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert added < 1.7 * size_bytes


def test_a_file_that_is_gone_is_named_without_its_folder(tmp_path: Path) -> None:
    """The answer names the artifact, and no folder of the machine."""
    with pytest.raises(DeliveryFailed) as caught:
        encode_file(tmp_path / "a.png")
    assert caught.value.message == "artifact 'a.png' could not be read: No such file or directory"


def test_a_folder_is_no_artifact(tmp_path: Path) -> None:
    """A folder where the file should be is told as such."""
    with pytest.raises(DeliveryFailed, match="could not be read: Is a directory"):
        encode_file(tmp_path)
