"""Files that are read window by window."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyworker.prefetch import transfer as transfer_module
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.transfer import READERS, Changed, CopyTransfer, Damaged, Readers, Transfer
from support.model_files import found, order_on, write_model

PIECE_BYTES = 4096
WINDOW_BYTES = READERS * PIECE_BYTES
SIZES = (0, 1, PIECE_BYTES, PIECE_BYTES + 1, WINDOW_BYTES, WINDOW_BYTES + PIECE_BYTES + 7)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of some kilobytes take several windows."""
    monkeypatch.setattr(transfer_module, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(transfer_module, "WINDOW_BYTES", WINDOW_BYTES)


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Return readers that end with the test."""
    readers = Readers()
    yield readers
    readers.close()


def bring(transfer: Transfer) -> int:
    """Bring a transfer to its end; return how many windows it had."""
    windows = 1
    while not transfer.step():
        windows += 1
    transfer.finish()
    transfer.close()
    return windows


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_has_every_byte(tmp_path: Path, readers: Readers, size: int) -> None:
    """Whatever the size, and checked against what was noted of it."""
    content = os.urandom(size)
    write_model(tmp_path / "volume/vae/x.safetensors", content)
    order = order_on(tmp_path / "volume")
    copies = LocalCopies(tmp_path / "cache", most_bytes=10**9, spare_bytes=0)
    folder = copies.open(order)["vae"]
    file = found(order, "x.safetensors", "vae")
    draft = copies.begin(file, keep=frozenset(), evicts=True)
    digest = hashlib.sha256(content).hexdigest()
    windows = bring(CopyTransfer(file, readers, copies, draft, sha256_hex=digest))
    assert windows == max(-(-size // WINDOW_BYTES), 1)
    assert (folder / "x.safetensors").read_bytes() == content
    assert list((tmp_path / "cache/.drafts").iterdir()) == []


def test_reading_alone_writes_nothing(tmp_path: Path, readers: Readers) -> None:
    """It counts what it has read."""
    write_model(tmp_path / "vae/x.safetensors", b"x" * 1000)
    transfer = Transfer(found(order_on(tmp_path), "x.safetensors", "vae"), readers)
    bring(transfer)
    assert transfer.done_bytes == 1000
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.safetensors"]


@pytest.mark.parametrize("how", ["written", "cut", "replaced"])
def test_a_file_that_changes_meanwhile(tmp_path: Path, readers: Readers, how: str) -> None:
    """What was read of it is of no use."""
    path = write_model(tmp_path / "vae/x.safetensors", b"x" * (WINDOW_BYTES + 1), mtime_s=1)
    transfer = Transfer(found(order_on(tmp_path), "x.safetensors", "vae"), readers)
    assert not transfer.step()
    if how == "written":
        with path.open("r+b") as file:
            file.write(b"y")
    elif how == "cut":
        os.truncate(path, WINDOW_BYTES)
    else:
        path.unlink()
        write_model(path, b"y" * (WINDOW_BYTES + 1), mtime_s=1)
    with pytest.raises(Changed):
        transfer.step()
    transfer.close()


def test_a_damaged_file_is_not_copied(tmp_path: Path, readers: Readers) -> None:
    """Its content is another than when it was fetched, though its size and time are the same."""
    write_model(tmp_path / "volume/vae/x.safetensors", b"damaged")
    order = order_on(tmp_path / "volume")
    copies = LocalCopies(tmp_path / "cache", most_bytes=100, spare_bytes=0)
    folder = copies.open(order)["vae"]
    file = found(order, "x.safetensors", "vae")
    draft = copies.begin(file, keep=frozenset(), evicts=True)
    transfer = CopyTransfer(file, readers, copies, draft, sha256_hex=hashlib.sha256(b"as it was").hexdigest())
    with pytest.raises(Damaged):
        transfer.step()
    transfer.close()
    assert list(folder.iterdir()) == []
    assert list((tmp_path / "cache/.drafts").iterdir()) == []


def test_a_file_that_is_gone_leaves_no_draft(tmp_path: Path, readers: Readers) -> None:
    """It was there when the job came."""
    write_model(tmp_path / "volume/vae/x.safetensors")
    order = order_on(tmp_path / "volume")
    copies = LocalCopies(tmp_path / "cache", most_bytes=100, spare_bytes=0)
    copies.open(order)
    file = found(order, "x.safetensors", "vae")
    draft = copies.begin(file, keep=frozenset(), evicts=True)
    file.path.unlink()
    with pytest.raises(FileNotFoundError):
        CopyTransfer(file, readers, copies, draft, sha256_hex=None)
    assert list((tmp_path / "cache/.drafts").iterdir()) == []
