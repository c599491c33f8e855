"""How a worker's settings lead to models that are brought nearer."""

import hashlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from comfyworker.comfyui import model_places
from comfyworker.comfyui.model_places import Origin
from comfyworker.errors import InvalidSettings
from comfyworker.hosts.prefetching import check_reachable, prefetching
from comfyworker.prefetch.recent import NAME
from comfyworker.provision.download import Receipt
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.place import STATE_NAME
from comfyworker.provision.records import MODELS_NAME, ModelRecord, ModelsState, key_of, write_note
from comfyworker.settings import load_settings
from support.eventually import eventually
from support.model_files import write_model

CONFIG = """
models:
  - url: https://example.org/download?id=7
    destination: checkpoints
  - url: https://example.org/wan.safetensors
    destination: loras/wan
  - url: https://example.org/none.safetensors
    destination: vae
"""


@pytest.fixture(autouse=True)
def _no_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for no volumes of platforms: the tester's machine may have some."""
    monkeypatch.setattr(model_places, "KNOWN_VOLUMES", ((Origin.NETWORK_VOLUME, Path("/nowhere")),))


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"LOCAL_MODEL_CACHE_GB": "5", "COMFYUI_BASE_DIR": "/comfyui"}, "looks for no copies"),
        ({"PREFETCH_MODELS": "readahead"}, "nothing says where that ComfyUI's models lie"),
    ],
    ids=["copies", "no folder"],
)
async def test_what_cannot_be_done_beside_a_comfyui_of_others(
    variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    """It is said at the start, with what to do."""
    settings = load_settings({"COMFY_API_URL": "http://127.0.0.1:1", **variables})
    with pytest.raises(InvalidSettings, match=told) as caught:
        async with prefetching(settings, cwd=tmp_path):
            pass
    assert caught.value.hint
    with pytest.raises(InvalidSettings):
        check_reachable(settings)


async def test_nothing_is_done_that_nobody_asked_for(tmp_path: Path) -> None:
    """Most workers prefetch nothing."""
    async with prefetching(load_settings({}), cwd=tmp_path) as prefetch:
        assert prefetch is None


async def test_models_of_a_config_are_read_ahead(tmp_path: Path) -> None:
    """Under the name that a model got when it was fetched, else under its address's; beside a ComfyUI of others."""
    models = tmp_path / "comfyui/models"
    fetched = write_model(models / "checkpoints/real-name.safetensors", b"12345")
    write_model(models / "loras/wan/wan.safetensors", b"123")
    (tmp_path / "config.yml").write_text(CONFIG)
    receipt = Receipt(
        url="https://example.org/download?id=7",
        filename=fetched.name,
        size_bytes=5,
        sha256=hashlib.sha256(b"12345").hexdigest(),
        mtime_ns=fetched.stat().st_mtime_ns,
    )
    entry = ModelEntry(url=receipt.url, destination="checkpoints")
    record = ModelRecord(key=key_of(entry), place=f"checkpoints/{fetched.name}", receipt=receipt)
    write_note(tmp_path / "comfyui" / STATE_NAME / MODELS_NAME, ModelsState(models={record.place: record}))
    settings = load_settings(
        {
            "PREFETCH_MODELS": "readahead",
            "COMFY_API_URL": "http://127.0.0.1:1",
            "COMFYUI_BASE_DIR": str(tmp_path / "comfyui"),
            "STATE_DIR": str(tmp_path / "state"),
        }
    )
    with capture_logs() as events:
        async with prefetching(settings, cwd=tmp_path) as prefetch:
            assert prefetch is not None
            await eventually(lambda: prefetch.figures.read_bytes == 8)
            graph = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": "wan/wan.safetensors"}}}
            async with prefetch.wanted(graph):
                await eventually((tmp_path / "comfyui" / STATE_NAME / NAME).exists)
    read = [event["model"] for event in events if event["event"] == "prefetch.model_read"]
    assert read == ["real-name.safetensors", "wan/wan.safetensors"]


async def test_a_config_that_is_wrong_is_no_hint(tmp_path: Path) -> None:
    """Provisioning says what is wrong with it."""
    (tmp_path / "config.yml").write_text("models: 5")
    settings = load_settings(
        {
            "PREFETCH_MODELS": "readahead",
            "COMFY_API_URL": "http://127.0.0.1:1",
            "COMFYUI_BASE_DIR": str(tmp_path / "comfyui"),
        }
    )
    with capture_logs() as events:
        async with prefetching(settings, cwd=tmp_path):
            await eventually(lambda: any(event["event"] == "prefetch.config_left_out" for event in events))
    assert [event for event in events if event["log_level"] in ("warning", "error")] == []
