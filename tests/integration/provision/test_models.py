"""The models of a config, from a real server onto a real disk."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyworker.cli.provision_plan import plan_problems
from comfyworker.errors import InsufficientStorage, InvalidConfig, ProvisioningFailed
from comfyworker.provision.apply import raise_failures
from comfyworker.provision.plan import Verdict
from comfyworker.provision.records import read_models
from comfyworker.provision.reporting import ItemStatus
from comfyworker.provision.state import is_unchanged
from comfyworker.provision.stock import Standing, find_prunable, list_stock
from support.model_server import Model, ModelServer
from support.ports import free_port
from support.provisioning import Ground, statuses

BODY = os.urandom(300_000)
OTHER = os.urandom(200_000)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Serve two models."""
    async with ModelServer() as server:
        server.add("a.safetensors", Model(BODY))
        server.add("b.safetensors", Model(OTHER))
        yield server


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """Return an empty volume."""
    return Ground(tmp_path / "volume")


async def test_models_come_to_their_folders_and_are_noted(server: ModelServer, ground: Ground) -> None:
    """Each model lies where the config says, and all is noted: the config's digest, each file's hash, the lock file."""
    found = ground.write(
        [
            {"url": f"{server.url}/files/a.safetensors", "destination": "checkpoints"},
            {"url": f"{server.url}/files/b.safetensors", "destination": "loras/wan", "filename": "c.safetensors"},
        ]
    )
    applied = await ground.apply()
    assert ground.files() == {"checkpoints/a.safetensors": BODY, "loras/wan/c.safetensors": OTHER}
    assert statuses(applied) == dict.fromkeys(ground.files(), ItemStatus.DONE)
    state = read_models(ground.place.models_state)
    assert state.config_sha256 == found.digest
    assert {place: record.receipt.sha256 for place, record in state.models.items()} == {
        place: hashlib.sha256(content).hexdigest() for place, content in ground.files().items()
    }
    assert applied.lock_path == ground.root / "config.lock.yml"


async def test_an_unchanged_config_asks_nobody(server: ModelServer, ground: Ground) -> None:
    """The second time no request is made, and nothing is said to be done."""
    found = ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    server.asked.clear()
    applied = await ground.apply()
    assert (applied.is_unchanged, applied.results, server.asked) == (True, (), [])
    assert is_unchanged(found, ground.place)


async def test_a_changed_config_does_only_what_changed(server: ModelServer, ground: Ground) -> None:
    """Only the model that was added is asked for; the one that was there stays untouched."""
    first = {"url": f"{server.url}/files/a.safetensors", "destination": "vae"}
    ground.write([first])
    await ground.apply()
    before = (ground.models / "vae/a.safetensors").stat()
    server.asked.clear()
    ground.write([first, {"url": f"{server.url}/files/b.safetensors", "destination": "vae"}])
    applied = await ground.apply()
    assert statuses(applied) == {"vae/a.safetensors": ItemStatus.PRESENT, "vae/b.safetensors": ItemStatus.DONE}
    assert server.asked_for("/files/a") == []
    assert (ground.models / "vae/a.safetensors").stat() == before


@pytest.mark.parametrize("harm", ["deleted", "cut", "touched"])
async def test_a_file_that_was_harmed_by_hand_is_noticed(server: ModelServer, ground: Ground, harm: str) -> None:
    """A model that was deleted or cut is made again; one whose time alone changed is looked at and kept."""
    found = ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    path = ground.models / "vae/a.safetensors"
    if harm == "deleted":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(BODY[:1000])
    else:
        os.utime(path, (0, 0))
    assert not is_unchanged(found, ground.place)
    server.sent.clear()
    await ground.apply()
    assert ground.files() == {"vae/a.safetensors": BODY}
    assert (server.sent["a.safetensors"] > 1) == (harm != "touched")
    assert is_unchanged(found, ground.place)


async def test_what_lies_there_already_is_adopted(server: ModelServer, ground: Ground) -> None:
    """A file that somebody else brought is noted, not fetched, where it is the one that is wanted."""
    path = ground.models / "vae/a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    plan = await ground.provisioner().plan()
    assert [model.verdict for model in plan.models] == [Verdict.ADOPT]
    server.sent.clear()
    await ground.apply()
    assert server.sent["a.safetensors"] <= 1
    [record] = read_models(ground.place.models_state).models.values()
    assert record.is_adopted
    assert record.receipt.sha256 == hashlib.sha256(BODY).hexdigest()


async def test_a_plan_without_a_network_is_told_in_one_line(server: ModelServer, ground: Ground) -> None:
    """A host that does not answer is asked for one model, not for each, and one problem names it."""
    silent = f"127.0.0.1:{free_port()}"
    entries = [{"url": f"http://{silent}/{number}.safetensors", "destination": "vae"} for number in range(40)]
    ground.write([*entries, {"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    plan = await ground.provisioner().plan()
    assert [model.verdict for model in plan.models] == [*[Verdict.UNKNOWN] * 40, Verdict.FETCH]
    [problem] = plan_problems(plan)
    assert problem.message == f"{silent} did not answer: what 40 models will take of the disk is unknown"
    assert problem.details["hosts"] == [silent]


async def test_what_is_baked_into_the_image_counts_as_there(
    server: ModelServer, ground: Ground, tmp_path: Path
) -> None:
    """ComfyUI finds it in its own models folder, so it is read once and not fetched; nothing removes it.

    On a worker whose image lacks it, it is fetched onto the volume.
    """
    ground.own_models = tmp_path / "image/models"
    path = ground.own_models / "vae/a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    found = ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    [planned] = (await ground.provisioner().plan()).models
    assert (planned.verdict, planned.reason) == (Verdict.ADOPT, "ComfyUI has it in its own models folder")
    server.sent.clear()
    assert statuses(await ground.apply()) == {"vae/a.safetensors": ItemStatus.DONE}
    assert server.sent["a.safetensors"] <= 1
    assert (ground.files(), is_unchanged(found, ground.place)) == ({}, True)
    state = read_models(ground.place.models_state)
    [listed] = list_stock(ground.models, state, ground.own_models)
    assert listed.standing is Standing.ADOPTED
    assert find_prunable(ground.models, state, []).models == ()
    [planned] = (await ground.provisioner().plan()).models
    assert (planned.verdict, planned.reason) == (Verdict.PRESENT, "ComfyUI has it in its own models folder")
    path.unlink()
    assert not is_unchanged(found, ground.place)
    await ground.apply()
    assert ground.files() == {"vae/a.safetensors": BODY}
    assert not read_models(ground.place.models_state).models["vae/a.safetensors"].is_baked_in


@pytest.mark.parametrize("content", [b"another" * 100_000, b"x" * len(BODY)], ids=["other size", "other content"])
async def test_another_file_in_the_image_is_in_the_way(
    server: ModelServer, ground: Ground, tmp_path: Path, content: bytes
) -> None:
    """ComfyUI would take that one, wherever the right one lay: the error says so, and nothing is fetched."""
    ground.own_models = tmp_path / "image/models"
    path = ground.own_models / "vae/a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(BODY).hexdigest()
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae", "sha256": sha256}])
    applied = await ground.apply(force=True)
    with pytest.raises(ProvisioningFailed, match="ComfyUI has another file of this name in its own models folder"):
        raise_failures(applied.results)
    assert (ground.files(), path.read_bytes()) == ({}, content)


async def test_somebodys_own_file_is_never_replaced(server: ModelServer, ground: Ground) -> None:
    """Another file of that name stays, and the error says what to do; --force replaces it."""
    path = ground.models / "vae/a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine" * 100_000)
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    applied = await ground.apply()
    with pytest.raises(ProvisioningFailed, match="another file of this name is there") as caught:
        raise_failures(applied.results)
    assert "--force" in (caught.value.hint or "")
    assert path.read_bytes() == b"mine" * 100_000
    await ground.apply(force=True)
    assert path.read_bytes() == BODY


async def test_a_download_that_another_tool_left_half_done_is_made_whole(server: ModelServer, ground: Ground) -> None:
    """A shorter file of that name is a download that was cut, and is replaced."""
    path = ground.models / "vae/a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:1000])
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    assert path.read_bytes() == BODY


async def test_equal_files_are_fetched_once(server: ModelServer, ground: Ground) -> None:
    """The same model in two folders comes once over the network, and lies once on the disk."""
    url = f"{server.url}/files/a.safetensors"
    ground.write([{"url": url, "destination": "vae"}, {"url": url, "destination": "checkpoints"}])
    await ground.apply()
    assert ground.files() == {"vae/a.safetensors": BODY, "checkpoints/a.safetensors": BODY}
    assert server.sent["a.safetensors"] < 1.5 * len(BODY)
    one, other = (ground.models / folder / "a.safetensors" for folder in ("vae", "checkpoints"))
    assert one.samefile(other)


async def test_what_fails_stops_nothing_else(server: ModelServer, ground: Ground) -> None:
    """A model that cannot be had is named; the rest is brought, and what failed is tried again next time."""
    good = {"url": f"{server.url}/files/a.safetensors", "destination": "vae"}
    ground.write([{"url": f"{server.url}/files/none.safetensors", "destination": "vae"}, good])
    applied = await ground.apply()
    assert statuses(applied) == {"vae/none.safetensors": ItemStatus.FAILED, "vae/a.safetensors": ItemStatus.DONE}
    with pytest.raises(ProvisioningFailed, match=r"none\.safetensors"):
        raise_failures(applied.results)
    assert not is_unchanged(ground.found, ground.place)
    server.add("none.safetensors", Model(OTHER))
    assert statuses(await ground.apply())["vae/none.safetensors"] is ItemStatus.DONE


async def test_an_optional_model_may_fail(server: ModelServer, ground: Ground) -> None:
    """It is reported, raises nothing, and is tried again next time."""
    ground.write([{"url": f"{server.url}/files/none.safetensors", "destination": "vae", "optional": True}])
    applied = await ground.apply()
    raise_failures(applied.results)
    assert [result.status for result in applied.failed] == [ItemStatus.FAILED]
    assert not is_unchanged(ground.found, ground.place)


async def test_room_is_looked_for_before_anything_is_fetched(server: ModelServer, ground: Ground) -> None:
    """A plan that the disk has no room for is refused with the figures; nothing was fetched."""
    server.add("huge.safetensors", Model(BODY, has_length=False, takes_ranges=False))
    huge = {"url": f"{server.url}/files/huge.safetensors", "destination": "vae", "size": 1 << 60}
    small = {"url": f"{server.url}/files/a.safetensors", "destination": "vae"}
    ground.write([huge, small])
    with pytest.raises(InsufficientStorage) as caught:
        await ground.apply()
    assert caught.value.details["wanted_bytes"] == (1 << 60) + len(BODY)
    assert ground.files() == {}
    ground.write([{**huge, "optional": True}, small])
    applied = await ground.apply()
    assert statuses(applied) == {"vae/huge.safetensors": ItemStatus.FAILED, "vae/a.safetensors": ItemStatus.DONE}


async def test_the_lock_file_reproduces_what_was(server: ModelServer, ground: Ground) -> None:
    """With --locked a source that has another file now is refused; without, it is taken at --force."""
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    (ground.models / "vae/a.safetensors").unlink()
    server.add("a.safetensors", Model(OTHER))
    applied = await ground.apply(locked=True)
    with pytest.raises(ProvisioningFailed):
        raise_failures(applied.results)
    assert ground.files() == {}
    server.add("a.safetensors", Model(BODY))
    await ground.apply(locked=True)
    assert ground.files() == {"vae/a.safetensors": BODY}


async def test_a_lock_file_without_an_entry_is_refused(server: ModelServer, ground: Ground) -> None:
    """Each entry that the lock file lacks is named; so is a lock file that is not there."""
    first = {"url": f"{server.url}/files/a.safetensors", "destination": "vae"}
    ground.write([first])
    with pytest.raises(InvalidConfig, match=r"there is no config\.lock\.yml"):
        await ground.apply(locked=True)
    await ground.apply()
    ground.write([first, {"url": f"{server.url}/files/b.safetensors", "destination": "loras"}])
    with pytest.raises(InvalidConfig, match="models: loras"):
        await ground.apply(locked=True)


async def test_force_takes_what_the_source_has_now(server: ModelServer, ground: Ground) -> None:
    """An apply with force asks the source again; another file there replaces ours, the same one is kept."""
    ground.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    await ground.apply()
    server.sent.clear()
    await ground.apply(force=True)
    assert server.sent["a.safetensors"] <= 1
    server.add("a.safetensors", Model(OTHER))
    await ground.apply()
    assert ground.files() == {"vae/a.safetensors": BODY}
    await ground.apply(force=True)
    assert ground.files() == {"vae/a.safetensors": OTHER}


async def test_two_workers_share_the_work(server: ModelServer, tmp_path: Path) -> None:
    """Of two on one volume one fetches; the other hears how far that is, and finds all there in the end."""
    one, other = Ground(tmp_path / "volume"), Ground(tmp_path / "volume")
    server.add("a.safetensors", Model(BODY, rate=100_000))
    one.write([{"url": f"{server.url}/files/a.safetensors", "destination": "vae"}])
    one.settings = one.settings.model_copy(update={"connections": 1})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ground.apply()) for ground in (one, other)]
    assert server.sent["a.safetensors"] < 1.5 * len(BODY)
    assert sorted(task.result().results[0].status for task in tasks) == [ItemStatus.DONE, ItemStatus.PRESENT]
    assert sum("Another worker" in note for ground in (one, other) for note in ground.listener.notes) == 1
