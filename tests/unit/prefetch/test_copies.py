"""Copies of models on the local disk."""

import os
from pathlib import Path

import pytest

from comfyworker.prefetch.copies import Contents, LocalCopies
from comfyworker.prefetch.draft import Elsewhere, NoRoom
from comfyworker.prefetch.order import ModelFile, SearchOrder
from support.model_files import found, order_on, write_model

NOBODY = frozenset[tuple[str, str]]()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return a volume with three models of ten bytes and one in a subfolder."""
    for name in ("a.safetensors", "b.safetensors", "c.safetensors", "wan/d.safetensors"):
        write_model(tmp_path / "volume/checkpoints" / name, name[:1].encode() * 10, mtime_s=1_700_000_000)
    return tmp_path / "volume"


@pytest.fixture
def order(volume: Path) -> SearchOrder:
    """Return how ComfyUI looks there."""
    return order_on(volume)


def open_copies(tmp_path: Path, order: SearchOrder, *, most_bytes: int = 25, spare_bytes: int = 0) -> LocalCopies:
    """Return copies that may take so much."""
    copies = LocalCopies(tmp_path / "cache", most_bytes=most_bytes, spare_bytes=spare_bytes)
    copies.open(order)
    return copies


def copy(
    copies: LocalCopies,
    file: ModelFile,
    *,
    used_at: int,
    keep: frozenset[tuple[str, str]] = NOBODY,
    evicts: bool = True,
) -> Path:
    """Copy a file as a transfer does, and have it used at that second; return where the copy is."""
    draft = copies.begin(file, keep=keep, evicts=evicts)
    draft.write(memoryview(file.path.read_bytes()), 0)
    copies.place(draft, file)
    path = copies.root / copies.order.digest / file.kind / file.name
    os.utime(path, ns=(used_at * 10**9, file.mtime_ns))
    return path


def copied_names(copies: LocalCopies) -> list[str]:
    """Return the names of the copies, links left out."""
    folder = copies.root / copies.order.digest / "checkpoints"
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )


def test_comfyui_gets_a_folder_for_each_kind(tmp_path: Path, order: SearchOrder) -> None:
    """They are there before it starts, so that it lists none of them anew because it came."""
    folders = LocalCopies(tmp_path / "cache", most_bytes=1).open(order)
    assert set(folders) == set(order.folders)
    assert all(folder.is_dir() for folder in folders.values())


def test_a_copy_is_its_model(tmp_path: Path, order: SearchOrder) -> None:
    """It has its content and its time, in the same subfolder."""
    copies, file = open_copies(tmp_path, order), found(order, "wan/d.safetensors")
    assert not copies.has(file)
    path = copy(copies, file, used_at=1)
    assert copies.has(file)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (file.path.read_bytes(), file.mtime_ns)
    assert copies.contents() == Contents(files=1, size_bytes=10)
    assert copies.copied({"d": file.path, "a": found(order, "a.safetensors").path}) == {"d"}


def test_the_least_recently_used_goes_first(tmp_path: Path, order: SearchOrder) -> None:
    """And its name leads to the volume from then on."""
    copies = open_copies(tmp_path, order)
    evicted: list[None] = []
    copies.on_evicted = lambda: evicted.append(None)
    oldest = copy(copies, found(order, "a.safetensors"), used_at=2)
    copy(copies, found(order, "b.safetensors"), used_at=1)
    copies.touch(found(order, "a.safetensors"))
    copy(copies, found(order, "c.safetensors"), used_at=3)
    assert copied_names(copies) == ["a.safetensors", "c.safetensors"]
    assert len(evicted) == 1
    gone = oldest.with_name("b.safetensors")
    assert gone.readlink() == found(order, "b.safetensors").path
    assert not copies.has(found(order, "b.safetensors"))
    copy(copies, found(order, "b.safetensors"), used_at=4)
    assert not gone.is_symlink()


def test_copies_of_jobs_stay(tmp_path: Path, order: SearchOrder) -> None:
    """What a job that runs or waits needs makes no room, however long ago it was used before."""
    copies = open_copies(tmp_path, order)
    copy(copies, found(order, "a.safetensors"), used_at=1)
    copy(copies, found(order, "b.safetensors"), used_at=2)
    copy(copies, found(order, "c.safetensors"), used_at=3, keep=frozenset({("checkpoints", "a.safetensors")}))
    assert copied_names(copies) == ["a.safetensors", "c.safetensors"]
    both = frozenset({("checkpoints", "a.safetensors"), ("checkpoints", "c.safetensors")})
    with pytest.raises(NoRoom, match="no room for another"):
        copies.begin(found(order, "b.safetensors"), keep=both, evicts=True)
    assert copied_names(copies) == ["a.safetensors", "c.safetensors"]


def test_what_is_only_likely_to_be_wanted_evicts_nothing(tmp_path: Path, order: SearchOrder) -> None:
    """It gets the room that is left."""
    copies = open_copies(tmp_path, order)
    copy(copies, found(order, "a.safetensors"), used_at=1, evicts=False)
    copy(copies, found(order, "b.safetensors"), used_at=2, evicts=False)
    with pytest.raises(NoRoom):
        copies.begin(found(order, "c.safetensors"), keep=NOBODY, evicts=False)
    assert copied_names(copies) == ["a.safetensors", "b.safetensors"]


def test_what_is_too_large_evicts_nothing(tmp_path: Path, order: SearchOrder) -> None:
    """A model that fits never would go round and round."""
    copies = open_copies(tmp_path, order, most_bytes=9)
    with pytest.raises(NoRoom, match="larger than all copies"):
        copies.begin(found(order, "a.safetensors"), keep=NOBODY, evicts=True)
    assert list((tmp_path / "cache/.drafts").iterdir()) == []


def test_the_disk_keeps_some_room(tmp_path: Path, order: SearchOrder) -> None:
    """More than the bound leaves may be needed for outputs."""
    copies = open_copies(tmp_path, order, spare_bytes=10**18)
    with pytest.raises(NoRoom, match="no room for another"):
        copies.begin(found(order, "a.safetensors"), keep=NOBODY, evicts=True)


def test_drafts_count(tmp_path: Path, order: SearchOrder) -> None:
    """What another worker is copying has its room already."""
    ours, theirs = open_copies(tmp_path, order), open_copies(tmp_path, order)
    drafts = [theirs.begin(found(order, f"{name}.safetensors"), keep=NOBODY, evicts=True) for name in "ab"]
    with pytest.raises(NoRoom):
        ours.begin(found(order, "c.safetensors"), keep=NOBODY, evicts=True)
    for draft in drafts:
        draft.discard()
    ours.begin(found(order, "c.safetensors"), keep=NOBODY, evicts=True).discard()


def test_one_worker_copies_a_model(tmp_path: Path, order: SearchOrder) -> None:
    """The other one waits, and then finds the copy."""
    ours, theirs, file = open_copies(tmp_path, order), open_copies(tmp_path, order), found(order, "a.safetensors")
    draft = theirs.begin(file, keep=NOBODY, evicts=True)
    with pytest.raises(Elsewhere):
        ours.begin(file, keep=NOBODY, evicts=True)
    draft.write(memoryview(b"a" * 10), 0)
    theirs.place(draft, file)
    assert ours.has(file)


def test_what_another_worker_writes_is_no_leftover(tmp_path: Path, order: SearchOrder) -> None:
    """A worker that starts removes only what nobody holds."""
    copies = open_copies(tmp_path, order)
    draft = copies.begin(found(order, "a.safetensors"), keep=NOBODY, evicts=True)
    (tmp_path / "cache/.drafts/0123.part").write_bytes(b"of one that was killed")
    open_copies(tmp_path, order)
    assert len(list((tmp_path / "cache/.drafts").iterdir())) == 1
    draft.write(memoryview(b"a" * 10), 0)
    copies.place(draft, found(order, "a.safetensors"))
    assert copies.has(found(order, "a.safetensors"))


def test_a_model_that_changed_has_no_copy(tmp_path: Path, volume: Path, order: SearchOrder) -> None:
    """From the next look on its name leads to the new one, also when only its time tells."""
    copies = open_copies(tmp_path, order)
    path = copy(copies, found(order, "a.safetensors"), used_at=1)
    write_model(volume / "checkpoints/a.safetensors", b"A" * 10, mtime_s=1_700_000_001)
    assert not copies.has(found(order, "a.safetensors"))
    assert path.read_bytes() == b"A" * 10
    assert copies.contents() == Contents(files=0, size_bytes=0)


@pytest.mark.parametrize("is_new_worker", [True, False], ids=["at the start", "meanwhile"])
def test_a_model_that_is_gone_has_no_copy(
    tmp_path: Path, volume: Path, order: SearchOrder, *, is_new_worker: bool
) -> None:
    """ComfyUI lists no name that there is no model for; links go as copies do."""
    copies = open_copies(tmp_path, order)
    path = copy(copies, found(order, "a.safetensors"), used_at=1)
    link = copy(copies, found(order, "b.safetensors"), used_at=2)
    write_model(volume / "checkpoints/b.safetensors", b"B", mtime_s=5)
    assert not copies.has(found(order, "b.safetensors"))
    (volume / "checkpoints/a.safetensors").unlink()
    (volume / "checkpoints/b.safetensors").unlink()
    if is_new_worker:
        open_copies(tmp_path, order)
    else:
        copies.sweep()
    assert not path.exists()
    assert not link.is_symlink()


def test_a_model_that_is_found_elsewhere_now(tmp_path: Path) -> None:
    """The folder that is searched first has one of the same name since: that is meant, not the copy's."""
    order = order_on(tmp_path / "volume")
    write_model(tmp_path / "volume/unet/x.safetensors", b"old", mtime_s=1)
    copies = open_copies(tmp_path, order)
    path = copy(copies, found(order, "x.safetensors", "diffusion_models"), used_at=1)
    newer = write_model(tmp_path / "volume/diffusion_models/x.safetensors", b"new", mtime_s=2)
    copies.sweep()
    assert path.readlink() == newer


def test_copies_come_and_go_unnoticed(tmp_path: Path, volume: Path, order: SearchOrder) -> None:
    """Their folders keep their time, or ComfyUI would list the slow volume anew; not when a name goes."""
    copies = open_copies(tmp_path, order)
    folder = copies.root / order.digest / "checkpoints"
    os.utime(folder, (1, 1))
    for number, name in enumerate("abc"):
        copy(copies, found(order, f"{name}.safetensors"), used_at=number)
    assert folder.stat().st_mtime == 1
    (volume / "checkpoints/c.safetensors").unlink()
    copies.sweep()
    assert folder.stat().st_mtime > 1


def test_workers_that_look_elsewhere_share_the_room_only(tmp_path: Path, order: SearchOrder) -> None:
    """A name means another file for each, and a copy that makes room leads its own worker to its own volume."""
    write_model(tmp_path / "other/checkpoints/a.safetensors", b"another a!", mtime_s=3)
    theirs_order = order_on(tmp_path / "other")
    ours, theirs = open_copies(tmp_path, order, most_bytes=10), open_copies(tmp_path, theirs_order, most_bytes=10)
    path = copy(theirs, found(theirs_order, "a.safetensors"), used_at=1)
    assert not ours.has(found(order, "a.safetensors"))
    copy(ours, found(order, "a.safetensors"), used_at=2)
    assert path.readlink() == tmp_path / "other/checkpoints/a.safetensors"
    assert copied_names(ours) == ["a.safetensors"]


def test_an_open_copy_is_read_to_its_end(tmp_path: Path, order: SearchOrder) -> None:
    """ComfyUI maps a model's file; that it makes room meanwhile changes nothing for it."""
    copies = open_copies(tmp_path, order, most_bytes=10)
    path = copy(copies, found(order, "a.safetensors"), used_at=1)
    with path.open("rb") as file:
        copy(copies, found(order, "b.safetensors"), used_at=2)
        assert file.read() == b"a" * 10
    assert path.read_bytes() == b"a" * 10  # from the volume


def test_a_folder_that_cannot_be_made(tmp_path: Path, order: SearchOrder) -> None:
    """Whoever opens it is told."""
    (tmp_path / "cache").touch()
    with pytest.raises(FileExistsError):
        open_copies(tmp_path, order)
