"""Which models the last jobs used."""

from pathlib import Path

import pytest

from comfyworker.prefetch.recent import NAME, RecentModels

BASE, LORA, VAE = ("checkpoints", "base.safetensors"), ("loras", "wan/a.safetensors"), ("vae", "v.safetensors")


def test_what_was_used_last_comes_first(tmp_path: Path) -> None:
    """The next worker reads what the last one noted."""
    worker = RecentModels(lambda: [tmp_path])
    worker.note([VAE])
    worker.note([BASE, LORA])
    assert RecentModels(lambda: [tmp_path]).read() == (BASE, LORA, VAE)
    worker.note([VAE])
    assert RecentModels(lambda: [tmp_path]).read() == (VAE, BASE, LORA)


def test_equal_jobs_write_once(tmp_path: Path) -> None:
    """A worker that runs one workflow all day leaves the volume alone."""
    worker = RecentModels(lambda: [tmp_path])
    worker.note([BASE])
    (tmp_path / NAME).unlink()
    worker.note([BASE])
    worker.note([])
    assert not (tmp_path / NAME).exists()


def test_a_volume_that_cannot_be_written(tmp_path: Path) -> None:
    """Then it is noted in the next folder, and both are read."""
    volume, own = tmp_path / "volume", tmp_path / "own"
    RecentModels(lambda: [volume]).note([VAE])
    volume.rename(tmp_path / "kept")
    volume.touch()  # no folder can be made there
    RecentModels(lambda: [volume, own]).note([BASE])
    volume.unlink()
    (tmp_path / "kept").rename(volume)
    assert RecentModels(lambda: [volume, own]).read() == (BASE, VAE)


def test_nowhere_to_write(tmp_path: Path) -> None:
    """It is not missed."""
    (tmp_path / "file").touch()
    recent = RecentModels(lambda: [tmp_path / "file"])
    recent.note([BASE])
    assert recent.read() == ()


@pytest.mark.parametrize("text", ["", "{", '{"models": [{"kind": 1}]}', "[]"])
def test_a_broken_note_is_none(tmp_path: Path, text: str) -> None:
    """Whatever stands there, nothing fails."""
    (tmp_path / NAME).write_text(text)
    assert RecentModels(lambda: [tmp_path]).read() == ()


def test_the_note_stays_short(tmp_path: Path) -> None:
    """Of many models, the last ones are kept."""
    recent = RecentModels(lambda: [tmp_path])
    for number in range(70):
        recent.note([("loras", f"{number}.safetensors")])
    names = [name for _, name in recent.read()]
    assert (len(names), names[0], names[-1]) == (64, "69.safetensors", "6.safetensors")
