"""Workers killed with SIGKILL that had jobs in a ComfyUI of COMFY_API_URL, which goes on without them."""

import asyncio
import functools
import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from comfyworker.jobs import Graph
from support import workflows
from support.command import environment, start, stop
from support.eventually import eventually
from support.pipelines import files_in, queue_of
from support.real_comfyui import RealComfyUI, shared_comfyui
from support.serving import Serving, get, post, serving, session
from support.stash import ENVIRON, OWNER_PID

Queue = tuple[list[str], list[str]]


@pytest.fixture(scope="session")
def second_comfyui(pytestconfig: pytest.Config, _shared_dir: Path) -> RealComfyUI:
    """Start another ComfyUI, for workers that use two."""
    folder = _shared_dir / "acceptance-second"
    folder.mkdir(exist_ok=True)
    return shared_comfyui(folder, pytestconfig.stash[OWNER_PID], pytestconfig.stash[ENVIRON])


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Path]:
    """Return the file that long jobs wait for; at the end of the test it is there, so that none runs on."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def open_gate(gate: Path) -> None:
    """Let the long jobs end."""
    gate.touch()


async def submit_as_stranger(url: str) -> str:
    """Put a prompt of another client's into a ComfyUI's queue; return its id."""
    body = {"prompt": workflows.noise(), "client_id": uuid.uuid4().hex}
    async with aiohttp.ClientSession() as client, client.post(f"{url}/prompt", json=body) as answer:
        return str((await answer.json())["prompt_id"])


async def executions(url: str, graph: Graph) -> list[tuple[str, int, int]]:
    """Return how each execution of `graph`, a wait, has ended in a ComfyUI, and when it began and ended there."""
    found = []
    async with aiohttp.ClientSession() as client, client.get(f"{url}/history") as answer:
        for entry in (await answer.json()).values():
            if entry["prompt"][2].get("2") != graph["2"]:
                continue
            told = entry["status"]["messages"]
            found.append((told[-1][0], told[0][1]["timestamp"], told[-1][1]["timestamp"]))
    return sorted(found, key=lambda execution: execution[1])


async def ended_well(url: str, prompt_id: str) -> bool:
    """Tell whether a ComfyUI has executed a prompt to its end."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/history/{prompt_id}") as answer:
        entry = (await answer.json()).get(prompt_id)
    return entry is not None and entry["status"]["status_str"] == "success"


async def until_queued(url: str, running: int, pending: int) -> Queue:
    """Wait until a ComfyUI runs and holds so many prompts; return their ids."""

    async def look() -> Queue | None:
        queue = await queue_of(url)
        return queue if (len(queue[0]), len(queue[1])) == (running, pending) else None

    found = await eventually(look, within_s=60)
    assert found is not None
    return found


async def take(server: Serving, graph: Graph) -> str:
    """Have a server take a job; return its id."""
    async with session(server) as client:
        status, body = await post(client, "/run", {"input": {"workflow": graph}})
    assert status == 200, body
    return str(body["id"])


async def completed(server: Serving, job_id: str) -> bool:
    """Tell whether a job is completed; it must not end otherwise."""
    async with session(server) as client:
        _, body = await get(client, f"/status/{job_id}")
    assert body["status"] in {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}, body
    return bool(body["status"] == "COMPLETED")


async def test_a_server_takes_back_what_it_had_sent(comfyui: RealComfyUI, tmp_path: Path, gate: Path) -> None:
    """After a kill, the running and the queued prompt are taken back before they are sent again; others' stay."""
    running, queued = workflows.wait(steps=1, until_file=gate), workflows.wait(steps=1, until_file=gate)
    async with serving(comfyui.url, tmp_path / "state") as server:
        jobs = [await take(server, running)]
        await until_queued(comfyui.url, 1, 0)
        jobs.append(await take(server, queued))
        await until_queued(comfyui.url, 1, 1)
        foreign = await submit_as_stranger(comfyui.url)
        before = await until_queued(comfyui.url, 1, 2)
        await server.kill()
    assert await queue_of(comfyui.url) == before
    async with serving(comfyui.url, tmp_path / "state") as server:
        await eventually(lambda: ended_well(comfyui.url, foreign), within_s=60)
        after = await until_queued(comfyui.url, 1, 1)
        open_gate(gate)
        for job in jobs:
            await eventually(functools.partial(completed, server, job), within_s=60)
    assert not {*before[0], *before[1]} & {*after[0], *after[1]}
    first, second = await executions(comfyui.url, running)
    assert [first[0], second[0]] == ["execution_interrupted", "execution_success"]
    assert first[2] <= second[1]
    assert [end for end, *_ in await executions(comfyui.url, queued)] == ["execution_success"]
    assert files_in(tmp_path / "state/comfyui-clients") == []


async def test_a_job_never_runs_on_two_at_once(
    comfyui: RealComfyUI, second_comfyui: RealComfyUI, tmp_path: Path, gate: Path
) -> None:
    """A job that a killed server had on one ComfyUI runs on another one only after it has ended there."""
    graph = workflows.wait(steps=1, until_file=gate)
    async with serving(f"{comfyui.url},{second_comfyui.url}", tmp_path / "state") as server:
        async with session(server) as client:
            await eventually(lambda: both_ready(client), within_s=60)
        job = await take(server, graph)
        here = await first_of(comfyui.url, second_comfyui.url)
        await server.kill()
    there = second_comfyui.url if here == comfyui.url else comfyui.url
    # The one that is named first takes the first job.
    async with serving(f"{there},{here}", tmp_path / "state") as server:
        await until_queued(there, 1, 0)
        open_gate(gate)
        await eventually(lambda: completed(server, job), within_s=60)
    ((first_end, _, first_ended_at),) = await executions(here, graph)
    ((second_end, second_begun_at, _),) = await executions(there, graph)
    assert (first_end, second_end) == ("execution_interrupted", "execution_success")
    assert first_ended_at <= second_begun_at


async def both_ready(client: aiohttp.ClientSession) -> bool:
    """Tell whether a server may use both of its ComfyUIs."""
    _, body = await get(client, "/ready")
    return [one["ready"] for one in body["comfyui"]] == [True, True]


async def first_of(*urls: str) -> str:
    """Wait until one of some ComfyUIs runs something; return which."""

    async def look() -> str | None:
        busy = [url for url in urls if (await queue_of(url))[0]]
        return busy[0] if busy else None

    found = await eventually(look, within_s=60)
    assert found is not None
    return found


@pytest.mark.parametrize("command", ["run", "handle"])
async def test_a_killed_command_leaves_no_prompt(
    comfyui: RealComfyUI, tmp_path: Path, gate: Path, command: str
) -> None:
    """The next command takes back what a killed one had in ComfyUI, and removes what it had saved there."""
    graph = workflows.wait(steps=1, until_file=gate)
    graph["10"] = workflows.save("1", prefix="half-done")
    environ = environment(comfyui, STATE_DIR=str(tmp_path / "state"))
    process = await start(command, write(tmp_path, graph, command), environ=environ, cwd=tmp_path)
    old, _ = await until_queued(comfyui.url, 1, 0)
    await eventually(lambda: list(comfyui.output_dir.glob("half-done*")))
    await stop(process, signal.SIGKILL)
    foreign = await submit_as_stranger(comfyui.url)
    assert await queue_of(comfyui.url) == (old, [foreign])
    process = await start(command, write(tmp_path, workflows.noise(), command), environ=environ, cwd=tmp_path)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert await ended_well(comfyui.url, foreign)
    assert [end for end, *_ in await executions(comfyui.url, graph)] == ["execution_interrupted"]
    assert list(comfyui.output_dir.glob("half-done*")) == []


async def test_a_worker_that_lives_keeps_its_prompts(comfyui: RealComfyUI, tmp_path: Path, gate: Path) -> None:
    """A second command with the same STATE_DIR and the same ComfyUI leaves the first one's prompt alone."""
    environ = environment(comfyui, STATE_DIR=str(tmp_path / "state"))
    graph = workflows.wait(steps=1, until_file=gate)
    first = await start("run", write(tmp_path, graph, "run"), environ=environ, cwd=tmp_path)
    old, _ = await until_queued(comfyui.url, 1, 0)
    second = await start("run", write(tmp_path, workflows.noise(), "run"), environ=environ, cwd=tmp_path)
    running, _ = await until_queued(comfyui.url, 1, 1)
    assert running == old
    open_gate(gate)
    async with asyncio.timeout(60):
        ends = [await process.communicate() for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ends
    assert [end for end, *_ in await executions(comfyui.url, graph)] == ["execution_success"]
    assert files_in(tmp_path / "state/comfyui-clients") == []


def write(folder: Path, graph: Graph, command: str) -> str:
    """Write what `command` reads into a new file; return its name."""
    content = graph if command == "run" else {"input": {"workflow": graph}}
    path = folder / f"{uuid.uuid4().hex}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path.name
