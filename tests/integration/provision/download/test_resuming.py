"""Downloads that are interrupted: by a cancellation, by kill -9, by a full disk, by another process."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from comfyworker.errors import DownloadFailed, InsufficientStorage
from comfyworker.provision.download import find_leftovers, is_unfinished, kept_bytes
from support.downloads import MEBIBYTE, Fetcher
from support.eventually import eventually
from support.model_server import Model, ModelServer

A = "/files/a.safetensors"
LEEWAY_BYTES = 4 * MEBIBYTE
"""What may be on its way, or in the memory of a process that is killed: four connections with 1 MiB or less each."""
CODE = """
import asyncio, json, sys
from pathlib import Path
from comfyworker.errors import WorkerError
from comfyworker.provision.download import Download, Downloader
from comfyworker.settings import ProvisionSettings, StoreSettings

async def main():
    url, folder = sys.argv[1:]
    async with Downloader(ProvisionSettings(connections=4), StoreSettings()) as downloader:
        try:
            receipt = await downloader.fetch(Download(url=url, folder=Path(folder)))
        except WorkerError as error:
            print("ANSWER", json.dumps([error.code, error.message, sorted(p.name for p in Path(folder).iterdir())]))
        else:
            print("ANSWER", receipt.model_dump_json())

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def downloading(url: str, folder: Path, *wrapper: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Fetch in a process of its own, which is ended in any case."""
    process = await asyncio.create_subprocess_exec(
        *wrapper, sys.executable, "-c", CODE, url, str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answer_of(process: asyncio.subprocess.Process) -> Any:  # whatever JSON it prints
    """Wait for what it prints at its end."""
    out, _ = await process.communicate()
    [line] = [line for line in out.decode().splitlines() if line.startswith("ANSWER ")]
    return json.loads(line.removeprefix("ANSWER "))


def kept(fetch: Fetcher) -> int:
    """Return what the journals say has come."""
    return kept_bytes(fetch.download(A), "a.safetensors")


async def test_a_killed_process(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """The next one fetches only what was missing."""
    model.stalls_after = 9 * MEBIBYTE
    async with downloading(server.url + A, fetch.folder) as process:
        await eventually(lambda: kept(fetch) > 4 * MEBIBYTE, within_s=60)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    before, was_kept = server.sent["a.safetensors"], kept(fetch)
    [leftover] = find_leftovers(fetch.folder)
    assert leftover.size_bytes >= was_kept
    model.stalls_after = None
    server.released.set()
    told: list[int] = []
    receipt = await fetch(A, on_bytes=lambda done, _total: told.append(done))
    assert receipt.sha256 == model.sha256
    assert receipt.fetched_bytes == len(model.body) - was_kept
    assert server.sent["a.safetensors"] - before <= receipt.fetched_bytes + LEEWAY_BYTES
    assert told[0] == was_kept
    assert fetch.names() == ["a.safetensors"]


async def test_a_canceled_download(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """What has come is kept to the byte; nothing but the unfinished file and its journal is there."""
    model.stalls_after = 6 * MEBIBYTE
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(fetch(A))
        await server.stalled.wait()
        await eventually(lambda: (fetch.names() and kept(fetch)) or None, within_s=30)
        fetching.cancel()
    was_kept = kept(fetch)
    assert all(is_unfinished(fetch.folder / name) for name in fetch.names())
    model.stalls_after = None
    server.released.set()
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert receipt.fetched_bytes == len(model.body) - was_kept


async def interrupted(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Leave an unfinished file."""
    model.stalls_after = 6 * MEBIBYTE
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(fetch(A))
        await server.stalled.wait()
        await eventually(lambda: kept(fetch) > 0, within_s=30)
        fetching.cancel()
    model.stalls_after = None
    server.released.set()


async def test_what_was_left_of_an_older_file(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """It is of no use once the source has another one: it is removed, and nothing of it is in the new one."""
    await interrupted(fetch, server, model)
    model.body = bytes(len(model.body))
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert receipt.fetched_bytes == len(model.body)
    assert fetch.names() == ["a.safetensors"]


async def test_what_was_left_and_is_damaged(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """A hash that is wrong because of it makes the download begin anew, once."""
    await interrupted(fetch, server, model)
    [part] = fetch.folder.glob(".*.part")
    start = json.loads((part.parent / f"{part.name}.json").read_text())["spans"][0][0]
    with part.open("r+b") as file:
        file.seek(start)
        file.write(bytes(100))
    with structlog.testing.capture_logs() as events:
        receipt = await fetch(A, sha256=model.sha256)
    assert receipt.sha256 == model.sha256
    assert (fetch.folder / "a.safetensors").read_bytes() == model.body
    assert "provision.download_restarted" in {event["event"] for event in events}


@pytest.mark.parametrize("journal", [b"", b"{", b'{"identity": 5}', b'{"identity":null,"size_bytes":1,"spans":[]}'])
async def test_journals_that_are_none(fetch: Fetcher, server: ModelServer, model: Model, journal: bytes) -> None:
    """What nobody knows anything of is fetched anew."""
    await interrupted(fetch, server, model)
    [path] = fetch.folder.glob(".*.part.json")
    path.write_bytes(journal)
    assert (await fetch(A)).fetched_bytes == len(model.body)
    assert fetch.names() == ["a.safetensors"]


async def test_a_journal_that_says_more_than_there_is(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """A file that is shorter than its journal says was cut by something: it is fetched anew."""
    await interrupted(fetch, server, model)
    [part] = fetch.folder.glob(".*.part")
    with part.open("r+b") as file:
        file.truncate(10)
    assert (await fetch(A)).fetched_bytes == len(model.body)


async def test_leftovers(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """They can be found and removed; one that is being written is none."""
    await interrupted(fetch, server, model)
    [leftover] = find_leftovers(fetch.folder)
    leftover.remove()
    assert fetch.names() == []
    server.stalled.clear()
    server.released.clear()
    model.stalls_after = 0
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(fetch(A))
        await server.stalled.wait()
        assert find_leftovers(fetch.folder) == ()
        fetching.cancel()


async def test_two_processes(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """One does the work; the other waits, and has the same receipt without having fetched anything."""
    model.stalls_after = 6 * MEBIBYTE
    async with downloading(server.url + A, fetch.folder) as other:
        await eventually(lambda: kept(fetch) > 0, within_s=60)
        told: list[int] = []
        with structlog.testing.capture_logs() as events:
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(fetch(A, on_bytes=lambda done, _total: told.append(done)))
                await eventually(lambda: "provision.download_awaited" in {event["event"] for event in events})
                model.stalls_after = None
                server.released.set()
        theirs = await answer_of(other)
    ours = fetching.result()
    assert ours.fetched_bytes == 0
    assert ours.model_dump() == {**theirs, "fetched_bytes": 0}
    assert ours.sha256 == model.sha256
    assert told[-1] == len(model.body)
    assert fetch.names() == ["a.safetensors"]


async def test_the_other_process_is_killed(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Who waits for it goes on where it was."""
    model.stalls_after = 6 * MEBIBYTE
    async with downloading(server.url + A, fetch.folder) as other:
        await eventually(lambda: kept(fetch) > 0, within_s=60)
        with structlog.testing.capture_logs() as events:
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(fetch(A))
                await eventually(lambda: "provision.download_awaited" in {event["event"] for event in events})
                model.stalls_after = None
                other.kill()
                await other.wait()
                server.released.set()
    assert fetching.result().sha256 == model.sha256
    assert 0 < fetching.result().fetched_bytes < len(model.body)
    assert fetch.names() == ["a.safetensors"]


async def test_two_downloads_of_one_process(fetch: Fetcher, model: Model) -> None:
    """It is the same within a process."""
    async with fetch.downloader() as downloader, asyncio.TaskGroup() as group:
        both = [group.create_task(downloader.fetch(fetch.download(A))) for _ in range(2)]
    assert sorted(task.result().fetched_bytes for task in both) == [0, len(model.body)]


async def test_two_files_for_one_place(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Either is there at the end, and whole."""
    other = server.add("b.safetensors", Model(bytes(12 * MEBIBYTE)))
    async with fetch.downloader() as downloader, asyncio.TaskGroup() as group:
        for path in (A, "/files/b.safetensors"):
            group.create_task(downloader.fetch(fetch.download(path, filename="c.safetensors")))
    assert (fetch.folder / "c.safetensors").read_bytes() in {model.body, other.body}
    assert fetch.names() == ["c.safetensors"]


async def test_no_room(fetch: Fetcher, server: ModelServer, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is written, other downloads of the same disk counted in."""
    from comfyworker.provision.download import space  # noqa: PLC0415  # what is patched

    monkeypatch.setattr(space, "free_bytes", lambda _folder: 20 * MEBIBYTE)
    server.add("b.safetensors", Model(bytes(12 * MEBIBYTE)))
    model.stalls_after = 0
    async with fetch.downloader() as downloader, asyncio.TaskGroup() as group:
        first = group.create_task(downloader.fetch(fetch.download(A)))
        await server.stalled.wait()
        with pytest.raises(InsufficientStorage, match=r"no room for b\.safetensors") as caught:
            await downloader.fetch(fetch.download("/files/b.safetensors"))
        model.stalls_after = None
        server.released.set()
    assert caught.value.details["wanted_bytes"] == 12 * MEBIBYTE
    assert first.result().sha256 == model.sha256
    assert fetch.names() == ["a.safetensors"]


async def test_a_disk_that_fills_up(server: ModelServer, model: Model, tmp_path: Path) -> None:
    """What has come is kept for the next try, and the error says so."""
    disk = tmp_path / "disk"
    disk.mkdir()
    model.stalls_after = MEBIBYTE
    # A file system of 16 MB of its own: room enough when the download begins, and then something else takes it.
    fill = f"read line < {tmp_path}/go; head -c 10000000 /dev/zero > {disk}/other; echo full > {tmp_path}/full"
    script = f'mount -t tmpfs -o size=16m tmpfs {disk} || exit 9; ({fill}) & exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    await (await asyncio.create_subprocess_exec("mkfifo", str(tmp_path / "go"), str(tmp_path / "full"))).wait()
    async with downloading(server.url + A, disk, *wrapper) as process:
        await server.stalled.wait()
        await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
        await asyncio.to_thread((tmp_path / "full").read_text)
        model.stalls_after = None
        server.released.set()
        code, message, left = await answer_of(process)
    assert (code, message) == (InsufficientStorage.code, "the disk is full: a.safetensors was not fetched wholly")
    assert [name for name in left if name.endswith(".part")]
    assert "a.safetensors" not in left


async def test_a_folder_that_cannot_be(fetch: Fetcher) -> None:
    """A file in its place is an error that shows no path."""
    fetch.folder.parent.mkdir()
    fetch.folder.write_text("a file")
    with pytest.raises(DownloadFailed, match="could not be written") as caught:
        await fetch(A)
    assert str(fetch.folder.parent) not in str(caught.value.to_dict())
