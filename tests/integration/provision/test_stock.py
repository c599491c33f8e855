"""The models that lie there: fetched by hand, read again, removed, and brought to and from a bucket."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyworker.provision.download import Downloader
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.models import download_of
from comfyworker.provision.pull import compare_bucket, entries_of, pull_models, send_models
from comfyworker.provision.records import ModelRecord, Wish, key_of, note_brought, read_models
from comfyworker.provision.reporting import ItemStatus
from comfyworker.provision.stock import Standing, find_prunable, list_stock, prune
from comfyworker.provision.verification import verify_models
from comfyworker.settings import load_settings
from support.model_server import Model, ModelServer
from support.object_store import ObjectStore
from support.provisioning import Ground, statuses

BODY = b"model" * 50_000
OTHER = b"other" * 40_000


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Serve two models."""
    async with ModelServer() as server:
        server.add("a.safetensors", Model(BODY))
        server.add("b.safetensors", Model(OTHER))
        yield server


@pytest.fixture
async def ground(tmp_path: Path, server: ModelServer) -> Ground:
    """Return a volume with a model by config, one by hand and one of somebody's own."""
    ground = Ground(tmp_path / "volume")
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    entry = ModelEntry(url=f"{server.url}/files/b.safetensors", destination="loras", filename="hand.safetensors")
    await pull_models([entry], ground.place, ground.settings, ground.store, reporter=ground.listener)
    (ground.models / "loras/own.safetensors").write_bytes(b"mine")
    return ground


def standings(ground: Ground) -> dict[str, Standing]:
    """Return what each model is, by its place."""
    return {model.place: model.standing for model in list_stock(ground.models, read_models(ground.place.models_state))}


def test_each_file_is_told_for_what_it_is(ground: Ground) -> None:
    """Ours, changed, gone, and somebody else's."""
    assert standings(ground) == {
        "vae/a.safetensors": Standing.OURS,
        "loras/hand.safetensors": Standing.OURS,
        "loras/own.safetensors": Standing.FOREIGN,
    }
    (ground.models / "vae/a.safetensors").unlink()
    (ground.models / "loras/hand.safetensors").write_bytes(b"changed")
    assert standings(ground)["vae/a.safetensors"] is Standing.MISSING
    assert standings(ground)["loras/hand.safetensors"] is Standing.CHANGED


def test_only_what_a_config_asked_for_once_is_removed(ground: Ground) -> None:
    """What was fetched by hand, and what is somebody's own, stays; so does all that the config still asks for."""
    state = read_models(ground.place.models_state)
    assert find_prunable(ground.models, state, ground.found.config.models).models == ()
    ground.write([])
    prunable = find_prunable(ground.models, state, ground.found.config.models)
    prune(ground.models, ground.place.models_state, prunable)
    assert list(ground.files()) == ["loras/hand.safetensors", "loras/own.safetensors"]
    assert list(read_models(ground.place.models_state).models) == ["loras/hand.safetensors"]


async def test_what_a_job_brought_is_known_and_removed(ground: Ground, server: ModelServer) -> None:
    """It is listed and read again as all else; a config that asks for it too keeps it, and has it without a look."""
    ground.write([])
    entry = ModelEntry(url=f"{server.url}/files/b.safetensors", destination="vae", filename="job.safetensors")
    async with Downloader(ground.settings, ground.store) as downloader:
        receipt = await downloader.fetch(download_of(entry, ground.models))
    record = ModelRecord(key=key_of(entry), place="vae/job.safetensors", receipt=receipt, wish=Wish.JOB)
    note_brought(ground.place.models_state, record)
    assert standings(ground)["vae/job.safetensors"] is Standing.OURS
    state = read_models(ground.place.models_state)
    [verified] = (await verify_models([state.models[record.place]], ground.models, ground.listener)).results
    assert verified.error is None
    assert [model.place for model in find_prunable(ground.models, state, [entry]).models] == ["vae/a.safetensors"]
    server.asked.clear()
    ground.write([entry.model_dump(exclude_none=True, include={"url", "destination", "filename"})])
    assert ((await ground.apply()).is_unchanged, server.asked) == (True, [])
    ground.write([])
    prune(ground.models, ground.place.models_state, find_prunable(ground.models, state, []))
    assert "vae/job.safetensors" not in standings(ground)
    assert not (ground.models / record.place).exists()


async def test_what_lay_there_already_is_never_removed(ground: Ground, server: ModelServer) -> None:
    """A file that a config found is its user's, also when the config does not ask for it any more."""
    path = ground.models / "checkpoints/b.safetensors"
    await asyncio.to_thread(path.parent.mkdir)
    await asyncio.to_thread(path.write_bytes, OTHER)
    ground.write([{"url": f"{server.url}/files/b.safetensors", "destination": "checkpoints"}])
    await ground.apply()
    prunable = find_prunable(ground.models, read_models(ground.place.models_state), [])
    assert [model.place for model in prunable.models] == ["vae/a.safetensors"]


async def test_damaged_models_are_found(ground: Ground) -> None:
    """A model with another content is named, whatever its size and time say; --force makes it whole again."""
    path = ground.models / "vae/a.safetensors"
    before = path.stat()
    await asyncio.to_thread(_damage, path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    records = tuple(read_models(ground.place.models_state).models.values())
    applied = await verify_models(records, ground.models, ground.listener)
    assert statuses(applied) == {
        "vae/a.safetensors": ItemStatus.FAILED, "loras/hand.safetensors": ItemStatus.PRESENT,
    }  # fmt: skip
    await ground.apply(force=True)
    assert ground.files()["vae/a.safetensors"] == BODY


async def test_a_bucket_and_a_folder_become_the_same(ground: Ground, object_store: ObjectStore, tmp_path: Path) -> None:
    """What the bucket lacks is sent to it, and comes to another machine by the same layout."""
    bucket = await object_store.make_bucket()
    url = f"s3://{bucket}/models"
    store = load_settings(object_store.variables(bucket)).store
    async with Downloader(ground.settings, store) as downloader:
        difference = await compare_bucket(url, ground.models, downloader)
        assert [place for place, _ in difference.to_send] == list(ground.files())
        await send_models(difference.to_send, url, downloader, ground.listener)
        assert (await compare_bucket(url, ground.models, downloader)).same == 3
        other = Ground(tmp_path / "other")
        difference = await compare_bucket(url, other.models, downloader)
    entries = entries_of(difference.to_fetch)
    await pull_models(entries, other.place, other.settings, store, reporter=other.listener)
    assert other.files() == ground.files()


def _damage(path: Path) -> None:
    """Change a byte and leave size and time as they were."""
    found = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
