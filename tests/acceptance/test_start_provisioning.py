"""`comfyworker start` with a config.yml: custom nodes before ComfyUI, models meanwhile; and what goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from comfyworker.provision.download import Download, find_leftovers, kept_bytes
from support import workflows
from support.command import COMMAND, environment
from support.eventually import eventually
from support.git_repositories import GitRepository, dimming_node_code, node_code
from support.model_server import Model, ModelServer
from support.node_packages import make_overlay
from support.ports import free_port
from support.real_comfyui import Install, lay_out
from support.runpod_platform import RunPodPlatform
from support.runpod_worker import runpod_worker
from support.serving import Serving, get, post, ready, serving, session
from support.vast_platform import VastPlatform
from support.vast_worker import plain_session, vast_worker

WITHIN_S = 60.0
MODEL = "held.pth"
BODY = bytes(range(256)) * 4096 * 16  # 16 MiB
HELD_AFTER_BYTES = 9 * 1024 * 1024
PACK = dimming_node_code("TestsGrey")
GATE = """
import pathlib, time

gate = pathlib.Path({gate!r})
gate.with_suffix(".reached").touch()
for _ in range(2400):
    if gate.exists():
        break
    time.sleep(0.05)
"""


class Machine:
    """A ComfyUI with an environment and folders of its own, and a config.yml in the worker's working directory."""

    def __init__(self, install: Install, root: Path, models: ModelServer) -> None:
        """Use folders below `root`."""
        self.root = root
        self.base_dir = root / "comfyui"
        self.state_dir = root / "state"
        self.server = models
        self.python = make_overlay(install, root / "environment")
        self._install = install
        self.state_dir.mkdir()

    @property
    def variables(self) -> dict[str, str]:
        """What leads the worker to this ComfyUI."""
        return {
            "COMFYUI_PATH": str(self._install.path),
            "COMFYUI_PYTHON": str(self.python),
            "COMFYUI_BASE_DIR": str(self.base_dir),
            "COMFYUI_PORT": str(free_port()),
            "COMFYUI_ARGS": "--cpu --disable-api-nodes",
            "SERVE_PORT": "0",
            "UV_OFFLINE": "1",
        }

    @property
    def model_path(self) -> Path:
        """Where the model comes to lie."""
        return self.base_dir / "models/upscale_models" / MODEL

    def write(self, *, models: list[dict[str, Any]] | None = None, nodes: list[dict[str, Any]] | None = None) -> None:
        """Write the config.yml."""
        text = yaml.safe_dump({"models": models or [], "nodes": nodes or []})
        (self.state_dir / "config.yml").write_text(text, encoding="utf-8")

    def model(self, name: str = MODEL, **more: Any) -> dict[str, Any]:
        """Return the config's entry of a model."""
        return {"url": f"{self.server.url}/files/{name}", "destination": "upscale_models", **more}

    def repository(self, name: str, files: dict[str, str]) -> str:
        """Make a repository of a custom node, and return where it is."""
        made = GitRepository(self.root / "repositories" / name)
        made.commit({**files})
        return made.url

    def start(self, **variables: str) -> AbstractAsyncContextManager[Serving]:
        """Start the worker, which serves HTTP here."""
        return serving(None, self.state_dir, environ=self.variables | variables, command=("start",))


@pytest.fixture
async def machine(comfyui_install: Install, checkpoint: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    """Return a machine, and a server whose model stops in its middle until it is released."""
    async with ModelServer() as server:
        server.add(MODEL, Model(BODY, stalls_after=HELD_AFTER_BYTES))
        made = await asyncio.to_thread(Machine, comfyui_install, tmp_path, server)
        await asyncio.to_thread(lay_out, made.base_dir, checkpoint)
        yield made


def job(graph: dict[str, Any]) -> dict[str, Any]:
    """Return a request."""
    return {"input": {"workflow": graph}}


def with_node() -> dict[str, Any]:
    """Return a workflow with the config's custom node, and no model."""
    graph = {**workflows.colour((200, 100, 50)), "2": workflows.node("TestsGrey", image=["1", 0])}
    graph[workflows.SAVE]["inputs"]["images"] = ["2", 0]
    return graph


def with_model(name: str = MODEL) -> dict[str, Any]:
    """Return a workflow that needs a model of the config."""
    return {"1": workflows.node("TestModelFile", some_model=name), workflows.SAVE: workflows.save("1")}


def events(server: Serving, name: str) -> list[dict[str, Any]]:
    """Return the events of a name."""
    return [event for event in server.log() if event["event"] == name]


def phases(server: Serving) -> set[str]:
    """Return the names of the start's phases."""
    [event] = events(server, "startup.ready")
    return {phase["name"] for phase in event["phases"]}


async def unready(client: aiohttp.ClientSession, reason: str) -> None:
    """Wait until /ready says why it is not."""

    async def says() -> bool:
        code, answer = await get(client, "/ready")
        return code == 503 and reason in answer["reason"]

    await eventually(says, within_s=WITHIN_S)


async def waits_for(client: aiohttp.ClientSession, job_id: str, words: str) -> None:
    """Wait until a job's progress says what it waits for."""

    async def says() -> bool:
        _, answer = await get(client, f"/status/{job_id}")
        assert words in ((answer.get("output") or {}).get("progress") or {}).get("message", ""), answer
        return True

    await eventually(says, within_s=WITHIN_S)


async def ended(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any]:
    """Wait for a job's end; return its status."""

    async def end() -> dict[str, Any]:
        _, answer = await get(client, f"/status/{job_id}")
        return answer if answer["status"] in {"COMPLETED", "FAILED"} else {}

    return await eventually(end, within_s=WITHIN_S)


async def test_nodes_come_first_and_a_job_waits_only_for_its_own_model(machine: Machine) -> None:
    """While nodes are made the server answers; while a model comes, jobs run that do not need it.

    The second start finds all as it was left.
    """
    gate = machine.root / "gate.open"
    url = machine.repository("ComfyUI-Grey", {"__init__.py": PACK, "install.py": GATE.format(gate=str(gate))})
    machine.write(models=[machine.model()], nodes=[{"url": url, "version": "nightly"}])
    async with machine.start() as server, session(server) as client:
        await eventually(gate.with_suffix(".reached").exists, within_s=WITHIN_S)
        assert (await get(client, "/health"))[0] == 200
        await unready(client, "custom nodes are being installed")
        assert events(server, "comfyui.started") == []
        # More than the server has places: those that wait for a model leave them to others.
        tickets = [(await post(client, "/run", job(with_model())))[1] for _ in range(5)]
        await waits_for(client, tickets[0]["id"], "waiting for ComfyUI")
        gate.touch()
        _, light = await post(client, "/runsync", job(with_node()))
        light = light if light["status"] == "COMPLETED" else await ended(client, light["id"])
        assert light["status"] == "COMPLETED", light
        assert machine.server.stalled.is_set()
        for waiting in tickets:
            await waits_for(client, waiting["id"], f"waiting for {MODEL}, which is being downloaded")
        assert not machine.model_path.exists()
        machine.server.released.set()
        answers = [await ended(client, waiting["id"]) for waiting in tickets]
        assert [answer["status"] for answer in answers] == ["COMPLETED"] * len(tickets), answers
        assert machine.model_path.read_bytes() == BODY
        await eventually(lambda: len(events(server, "provision.done")) == 2)
    at = {phase["name"]: phase for phase in events(server, "startup.ready")[0]["phases"]}
    assert at["nodes"]["ended_s"] <= at["comfyui"]["begun_s"]
    machine.server.asked.clear()
    async with machine.start() as again:
        await ready(again)
        async with session(again) as client:
            assert (await post(client, "/runsync", job(with_model())))[1]["status"] == "COMPLETED"
            assert (await post(client, "/runsync", job(with_node())))[1]["status"] == "COMPLETED"
    assert [(event["models"], event["nodes"]) for event in events(again, "provision.unchanged")] == [(1, 1)]
    assert machine.server.asked == []
    assert phases(again).isdisjoint({"nodes", "models"})


async def test_a_required_node_that_cannot_be_had(machine: Machine) -> None:
    """The server stays up and tells why; ComfyUI is not started, and no job runs."""
    missing = f"file://{machine.root}/repositories/ComfyUI-Absent"
    machine.write(nodes=[{"url": missing, "version": "nightly"}])
    async with machine.start() as server, session(server) as client:
        await unready(client, "ComfyUI-Absent")
        code, answer = await get(client, "/ready")
        assert (code, answer["comfyui"][0]["error"]["code"]) == (503, "provisioning_failed")
        _, failed = await post(client, "/runsync", job(workflows.colour((1, 2, 3))))
        assert (failed["status"], failed["output"]["error_code"]) == ("FAILED", "provisioning_failed"), failed
        assert "ComfyUI-Absent" in failed["error"]
        assert (await get(client, "/health"))[0] == 200
        assert server.process.returncode is None
    assert events(server, "comfyui.started") == []
    [told] = events(server, "provision.failed")
    assert (told["part"], told["failed"]) == ("nodes", ["ComfyUI-Absent"])
    assert "Traceback" not in server.log_text()


async def test_what_is_optional_is_in_nobodys_way_and_what_is_required_is_told(machine: Machine) -> None:
    """An optional node that fails keeps no ComfyUI down; a job is told why its model could not be had."""
    machine.server.add("gone.pth", Model(b"x", status=404))
    broken = machine.repository("ComfyUI-Broken", {"__init__.py": "import no_such_package_of_the_tests\n"})
    good = machine.repository("ComfyUI-Hello", {"__init__.py": node_code("TestsHello")})
    machine.write(
        models=[machine.model("gone.pth"), machine.model("gone-too.pth", optional=True)],
        nodes=[{"url": broken, "version": "nightly", "optional": True}, {"url": good, "version": "nightly"}],
    )
    async with machine.start() as server, session(server) as client:
        await ready_within(server)
        assert (await post(client, "/runsync", job(workflows.colour((1, 2, 3)))))[1]["status"] == "COMPLETED"
        for name in ("gone.pth", "gone-too.pth"):
            _, failed = await post(client, "/runsync", job(with_model(name)))
            assert (failed["status"], failed["output"]["error_code"]) == ("FAILED", "download_failed"), failed
            assert "404" in failed["error"]
    failures = {(event["part"], tuple(event["failed"])) for event in events(server, "provision.failed")}
    assert failures == {("models", ("upscale_models/gone.pth",))}


async def ready_within(server: Serving) -> None:
    """Wait until jobs are taken; the import check of custom nodes takes its time before."""
    async with session(server) as client:

        async def is_ready() -> bool:
            return (await get(client, "/ready"))[0] == 200

        await eventually(is_ready, within_s=WITHIN_S)


async def test_killed_while_a_model_comes(machine: Machine) -> None:
    """The next start goes on with the file where it stopped, and ends as one that was not killed."""
    machine.write(models=[machine.model()])
    async with machine.start() as server:
        await eventually(lambda: kept(machine) > 0, within_s=WITHIN_S)
        await server.kill()
    was_kept = kept(machine)
    assert not machine.model_path.exists()
    machine.server.models[MODEL].stalls_after = None
    machine.server.released.set()
    await eventually(lambda: machine.server.open[MODEL] == 0)  # or what is sent to the dead worker would count
    machine.server.sent.clear()
    async with machine.start() as again, session(again) as client:
        _, answer = await post(client, "/run", job(with_model()))
        assert (await ended(client, answer["id"]))["status"] == "COMPLETED"
    assert machine.model_path.read_bytes() == BODY
    [told] = [event for event in events(again, "provision.item_ended") if event["kind"] == "model"]
    assert told["bytes"] == len(BODY) - was_kept
    assert machine.server.sent[MODEL] < len(BODY)
    assert find_leftovers(machine.model_path.parent) == ()
    assert events(again, "provision.failed") == []


def kept(machine: Machine) -> int:
    """Return how much of the model the next start would not fetch again."""
    url = f"{machine.server.url}/files/{MODEL}"
    return kept_bytes(Download(url=url, folder=machine.model_path.parent), MODEL)


async def test_who_wants_none_of_it(machine: Machine) -> None:
    """With PROVISION_AT_START=false nothing is asked for; for a ComfyUI of somebody else's a warning tells so."""
    machine.write(models=[machine.model()])
    async with machine.start(PROVISION_AT_START="false") as server, session(server) as client:
        await unready(client, "ComfyUI is starting")
    assert [event for event in server.log() if event["event"].startswith("provision.")] == []
    async with machine.start(COMFY_API_URL=f"http://127.0.0.1:{free_port()}") as server:
        pass
    assert len(events(server, "provision.skipped")) == 1
    assert machine.server.asked == []


async def test_a_wrong_config_is_one_clear_error(machine: Machine) -> None:
    """Nothing is started; the line and what was likely meant are told."""
    text = "models:\n  - url: https://example.org/a.pth\n    destinatoin: upscale_models\n"
    (machine.state_dir / "config.yml").write_text(text, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "start", env=environment() | machine.variables, cwd=machine.state_dir,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    said = err.decode()
    assert (process.returncode, out) == (1, b"")
    assert [word for word in ("[invalid_config]", "line 3", "did you mean 'destination'") if word not in said] == []
    assert "Traceback" not in said
    assert "comfyui." not in said


async def test_on_vast_a_worker_without_its_nodes_is_reported_as_broken(machine: Machine) -> None:
    """The reports name the custom node, and requests are another worker's; it stays up to say so."""
    missing = f"file://{machine.root}/repositories/ComfyUI-Absent"
    machine.write(nodes=[{"url": missing, "version": "nightly"}])
    async with (
        VastPlatform() as platform,
        vast_worker(None, machine.state_dir, platform, environ=machine.variables, command="start") as worker,
        plain_session(worker) as client,
    ):
        told = await platform.until_status(lambda status: bool(status["error_msg"]), within_s=WITHIN_S)
        assert "ComfyUI-Absent" in told["error_msg"]
        assert told["max_perf"] == 0.0
        auth = platform.signer.auth_data(worker.url)
        asked = {"auth_data": auth, "payload": job(workflows.colour((8, 8, 8)))}
        code, answer = await post(client, "/generate/sync", asked)
        assert (code, answer["error_code"]) == (503, "comfyui_unavailable")
        assert "ComfyUI-Absent" in json.dumps(answer)
        assert worker.process.returncode is None
    assert events(worker, "comfyui.started") == []


async def test_on_runpod_a_worker_without_its_nodes_takes_no_job(machine: Machine) -> None:
    """It ends with 1 and says why; the job is another worker's."""
    missing = f"file://{machine.root}/repositories/ComfyUI-Absent"
    variables = {**machine.variables, "CONFIG_YML": yaml.safe_dump({"nodes": [{"url": missing, "version": "nightly"}]})}
    async with (
        RunPodPlatform() as platform,
        runpod_worker(platform, machine.root / "worker", variables, command="start") as worker,
    ):
        ticket = await platform.submit(workflows.colour((8, 8, 8)))
        assert await worker.ended() == 1
        assert (ticket.taken_at, platform.asked) == (None, [])
        assert "[provisioning_failed]" in worker.stderr()
        assert "ComfyUI-Absent" in worker.stderr()
        assert "Traceback" not in worker.stderr()
