"""What a ComfyUI that is started is told of volumes, and what the log says of them."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from comfyworker.comfyui import model_places
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.model_places import Origin
from comfyworker.comfyui.model_sources import ModelSources
from comfyworker.settings import VolumeSettings


@pytest.fixture(autouse=True)
def _no_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the volumes of platforms below the test's folder: the tester's machine may have some."""
    monkeypatch.setattr(model_places, "KNOWN_VOLUMES", ((Origin.NETWORK_VOLUME, tmp_path / "runpod-volume"),))


def sources(tmp_path: Path, **settings: Any) -> ModelSources:
    """Return the sources of a worker in `tmp_path`."""
    return ModelSources(VolumeSettings(**settings), folder=tmp_path / "state", cwd=tmp_path)


def installation(tmp_path: Path) -> Installation:
    """Return a ComfyUI in `tmp_path`."""
    return Installation(path=tmp_path / "own", python=Path("/python"), version=None, base_dir=tmp_path / "own")


def make_model(path: Path, size_bytes: int = 2_000_000) -> None:
    """Write a file of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size_bytes)


async def test_without_a_volume_nothing_is_written_or_said(tmp_path: Path) -> None:
    """Whoever has no volume hears nothing of it."""
    with capture_logs() as events:
        found = sources(tmp_path)
        assert found.prepare(installation(tmp_path)) is None
        await found.report()
    assert events == []
    assert not (tmp_path / "state").exists()


def test_a_volume_is_told_to_comfyui(tmp_path: Path) -> None:
    """The file is written into the folder of ours, and one line says what was found."""
    make_model(tmp_path / "runpod-volume/models/loras/a.safetensors")
    with capture_logs() as events:
        path = sources(tmp_path).prepare(installation(tmp_path))
    assert path is not None
    assert path.parent == tmp_path / "state"
    assert str(tmp_path / "runpod-volume/models/loras") in path.read_text()
    assert events == [
        {
            "event": "volume.found",
            "log_level": "info",
            "place": str(tmp_path / "runpod-volume"),
            "origin": "network volume",
            "mounted": False,
            "models_in": [str(tmp_path / "runpod-volume/models")],
        }
    ]


def test_a_wrong_models_path_is_told(tmp_path: Path) -> None:
    """What was named and is not there is a warning, also without the debug switch; ComfyUI looks there if it comes."""
    with capture_logs() as events:
        path = sources(tmp_path, models_path=Path("nowhere")).prepare(installation(tmp_path))
    assert path is not None
    assert str(tmp_path / "nowhere/loras") in path.read_text()
    assert [(event["event"], event["reason"], event["log_level"]) for event in events] == [
        ("volume.missed", "it is not there", "warning")
    ]


async def test_the_debug_switch_tells_all(tmp_path: Path) -> None:
    """Each kind with its files, what is wrong with some, and what there is in all."""
    volume = tmp_path / "runpod-volume"
    make_model(volume / "models/checkpoints/sd.safetensors")
    make_model(volume / "models/checkpoints/flux.safetensors.part")
    (volume / "models/vae").mkdir()
    found = sources(tmp_path, debug=True)
    found.prepare(installation(tmp_path))
    with capture_logs() as events:
        await found.report()
    assert events == [
        {
            "event": "volume.kind_counted",
            "log_level": "info",
            "kind": "checkpoints",
            "folder": str(volume / "models/checkpoints"),
            "files": 1,
            "size": "2.0 MB",
            "names": ["sd.safetensors"],
        },
        {
            "event": "volume.file_doubted",
            "log_level": "warning",
            "path": str(volume / "models/checkpoints/flux.safetensors.part"),
            "reason": "is a download that was not finished",
            "advice": "Download it again.",
        },
        {
            "event": "volume.counted",
            "log_level": "info",
            "place": str(volume),
            "files": 1,
            "size": "2.0 MB",
            "empty": ["vae"],
            "doubts": 1,
        },
        {
            "event": "volume.reported",
            "log_level": "info",
            "places": 1,
            "advice": "Unset NETWORK_VOLUME_DEBUG for a quiet start.",
        },
    ]


async def test_the_debug_switch_tells_that_there_is_no_volume(tmp_path: Path) -> None:
    """Why there is none, and what to do."""
    found = sources(tmp_path, debug=True)
    with capture_logs() as events:
        found.prepare(installation(tmp_path))
        await found.report()
    assert [(event["event"], event.get("reason")) for event in events] == [
        ("volume.missed", "it is not there"),
        ("volume.reported", None),
    ]
    assert "Choose a network volume" in events[0]["advice"]


def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither STATE_DIR nor the folder for temporary files takes the file, ComfyUI starts without the volume."""
    make_model(tmp_path / "runpod-volume/models/loras/a.safetensors")
    (tmp_path / "state").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with capture_logs() as events:
        assert sources(tmp_path).prepare(installation(tmp_path)) is None
    assert [(event["event"], event["log_level"]) for event in events] == [
        ("volume.found", "info"),
        ("volume.left_out", "warning"),
    ]
