"""Copies whose worker is killed, whose disk is full, and which two workers make at the same time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyworker.prefetch.copies import LocalCopies
from support.model_files import found, order_on, write_model
from support.prefetching import WINDOW_BYTES

MODELS = tuple(f"model-{number}.safetensors" for number in range(8))
SIZE = 3 * WINDOW_BYTES + 11
NO_SPARE = -(10**12)
"""So that the copy finds out by itself that the disk is full."""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return a volume of eight models, each with a content of its own."""
    for number, name in enumerate(MODELS):
        write_model(tmp_path / "volume/checkpoints" / name, bytes([number]) * SIZE)
    return tmp_path / "volume"


def command(volume: Path, cache: Path, *models: str, most: int = 8, **more: Any) -> list[str]:
    """Return the command that copies these models, in a cache that holds so many of them."""
    plan = {"volume": str(volume), "cache": str(cache), "most_bytes": most * SIZE, "spare_bytes": 0, "models": models}
    return [sys.executable, "-m", "support.prefetching", json.dumps(plan | more)]


def environ() -> dict[str, str]:
    """Return an environment in which the command is found."""
    return {**os.environ, "PYTHONPATH": str(Path("tests").resolve())}


def events(output: str) -> list[dict[str, Any]]:
    """Return what a command has told."""
    return [json.loads(line) for line in output.splitlines()]


def names(told: list[dict[str, Any]]) -> list[str]:
    """Return the names of events, without those of the start."""
    return [event["event"] for event in told if event["event"] not in ("prefetch.begun", "prefetch.use_not_noted")]


def copied(volume: Path, cache: Path) -> dict[str, bool]:
    """Return for each copy whether it has its model's content."""
    folder = cache / order_on(volume).digest / "checkpoints"
    there = [path for path in folder.iterdir() if not path.is_symlink()]
    return {path.name: path.read_bytes() == (volume / "checkpoints" / path.name).read_bytes() for path in there}


def drafts(cache: Path) -> list[Path]:
    """Return what is not whole."""
    return list((cache / ".drafts").iterdir())


@pytest.fixture
def paused(volume: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a worker that has copied a third of a model, and waits."""
    with subprocess.Popen(
        command(volume, tmp_path / "cache", MODELS[0], pauses=True),
        env=environ(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any(json.loads(line)["event"] == "test.paused" for line in process.stdout)
        yield process
        process.kill()


def test_killed_in_the_middle(volume: Path, tmp_path: Path, paused: subprocess.Popen[str]) -> None:
    """Half a copy is never found as one; the next worker removes it and copies the model anew."""
    cache = tmp_path / "cache"
    assert copied(volume, cache) == {}
    assert len(drafts(cache)) == 1
    paused.kill()
    paused.wait()
    done = subprocess.run(command(volume, cache, MODELS[0]), env=environ(), capture_output=True, text=True, check=True)
    assert names(events(done.stdout)) == ["prefetch.leftover_removed", "prefetch.model_copied"]
    assert copied(volume, cache) == {MODELS[0]: True}
    assert drafts(cache) == []


def test_while_another_worker_copies(volume: Path, tmp_path: Path, paused: subprocess.Popen[str]) -> None:
    """The draft of a worker that lives is left alone, and the same model is not copied twice; another one is."""
    cache = tmp_path / "cache"
    subprocess.run(command(volume, cache, MODELS[1]), env=environ(), capture_output=True, check=True)
    assert copied(volume, cache) == {MODELS[1]: True}
    copies = LocalCopies(cache, most_bytes=8 * SIZE, spare_bytes=0)
    copies.open(order_on(volume))
    assert len(drafts(cache)) == 1
    assert paused.poll() is None
    assert not copies.has(found(order_on(volume), MODELS[0]))


def test_two_workers_at_once(volume: Path, tmp_path: Path) -> None:
    """Both want all models of a cache that holds three, in opposite orders: what is there is whole, and no more."""
    cache = tmp_path / "cache"
    orders = [MODELS * 2, tuple(reversed(MODELS)) * 2]
    workers = [
        subprocess.Popen(command(volume, cache, *models, most=3), env=environ(), stdout=subprocess.PIPE, text=True)
        for models in orders
    ]
    told = [events(worker.communicate()[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    found_names = {name for events in told for name in names(events)}
    assert found_names <= {
        "prefetch.model_copied",
        "prefetch.copy_evicted",
        "prefetch.not_copied",
        "prefetch.model_read",
    }
    there = copied(volume, cache)
    assert 0 < len(there) <= 3
    assert all(there.values())
    assert drafts(cache) == []
    # Every name leads to its model, by a copy or by a link.
    folder = cache / order_on(volume).digest / "checkpoints"
    for path in folder.iterdir():
        assert path.read_bytes() == (volume / "checkpoints" / path.name).read_bytes()


def test_a_disk_that_is_full(volume: Path, tmp_path: Path) -> None:
    """What cannot be copied is read ahead instead, and nothing of it stays; what is smaller is copied after that."""
    cache = tmp_path / "cache"
    cache.mkdir()
    write_model(volume / "checkpoints/small.safetensors", b"small")
    # A file system of its own, in a namespace of its own: no root needed where users may make these.
    script = f'mount -t tmpfs -o size={2 * WINDOW_BYTES} tmpfs {cache} && "$@" && find {cache}/.drafts -type f'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    work = command(volume, cache, MODELS[0], "small.safetensors", spare_bytes=NO_SPARE)
    done = subprocess.run([*wrapper, *work], env=environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert names(told) == ["prefetch.not_copied", "prefetch.model_read", "prefetch.model_copied"]
    assert next(event["reason"] for event in told if "reason" in event) == "No space left on device"


def test_files_that_may_not_be_so_large(volume: Path, tmp_path: Path) -> None:
    """A limit of the process on the size of files is told as a full disk is."""
    script = f'ulimit -f {WINDOW_BYTES // 1024} && exec "$@"'
    work = command(volume, tmp_path / "cache", MODELS[0])
    done = subprocess.run(
        ["bash", "-c", script, "bash", *work], env=environ(), capture_output=True, text=True, check=True
    )
    told = events(done.stdout)
    assert names(told) == ["prefetch.not_copied", "prefetch.model_read"]
    assert next(event["reason"] for event in told if "reason" in event) == "File too large"
    assert drafts(tmp_path / "cache") == []
