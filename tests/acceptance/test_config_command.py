"""A config.yml applied by the command, on a machine with a real ComfyUI, killed here and there."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import workflows
from support.command import Done, call, environment, start, stop
from support.eventually import eventually
from support.git_repositories import GitRepository, GitServer, dimming_node_code
from support.model_server import Model, ModelServer
from support.node_packages import make_overlay
from support.ports import free_port
from support.real_comfyui import CHECKPOINT_NAME, Install
from support.serving import post, ready, serving, session

PACK = dimming_node_code("TestsDimmed")
MODEL = "served.safetensors"
BIG = os.urandom(32_000_000)
APPLY_WITHIN_S = 200.0


class Machine:
    """A ComfyUI with folders of its own, and a config.yml in the working directory."""

    def __init__(self, install: Install, base_dir: Path, cwd: Path, models: ModelServer) -> None:
        self.install = install
        self.base_dir = base_dir
        self.cwd = cwd
        self.server = models
        self.python = install.python

    @property
    def variables(self) -> dict[str, str]:
        """What leads the worker to this ComfyUI."""
        return {
            "COMFYUI_PATH": str(self.install.path),
            "COMFYUI_PYTHON": str(self.python),
            "COMFYUI_BASE_DIR": str(self.base_dir),
            "COMFYUI_ARGS": "--disable-api-nodes",
            "COMFYUI_PORT": str(free_port()),
            "UV_OFFLINE": "1",
            "STATE_DIR": str(self.cwd / "state"),
        }

    def write(self, *, models: list[dict[str, Any]] | None = None, nodes: list[dict[str, Any]] | None = None) -> None:
        """Write the config.yml."""
        text = yaml.safe_dump({"models": models or [], "nodes": nodes or []})
        (self.cwd / "config.yml").write_text(text, encoding="utf-8")

    async def call(self, *args: str) -> Done:
        """Run the command to its end, while servers of this process go on."""
        environ = environment() | self.variables
        return await asyncio.to_thread(lambda: call(*args, environ=environ, cwd=self.cwd))

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        """Start the command."""
        return await start(*args, environ=environment() | self.variables, cwd=self.cwd)


@pytest.fixture
async def models(checkpoint: Path) -> AsyncIterator[ModelServer]:
    """Serve the tiny checkpoint, and a file that takes a moment."""
    async with ModelServer() as server:
        server.add(MODEL, Model(await asyncio.to_thread(checkpoint.read_bytes)))
        server.add("big.safetensors", Model(BIG))
        yield server


@pytest.fixture
def machine(comfyui_install: Install, comfyui_base: Path, tmp_path: Path, models: ModelServer) -> Machine:
    """Return a machine without any checkpoint."""
    (comfyui_base / "models/checkpoints" / CHECKPOINT_NAME).unlink()
    (tmp_path / "work").mkdir()
    machine = Machine(comfyui_install, comfyui_base, tmp_path / "work", models)
    machine.python = make_overlay(comfyui_install, tmp_path / "environment")
    return machine


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[tuple[GitRepository, str]]:
    """Serve a custom node with a release, and return it with its URL."""
    pack = GitRepository(tmp_path / "repositories" / "ComfyUI-Dimmed")
    pack.commit({"__init__.py": PACK})
    pack.tag("v1.0.0")
    async with GitServer(tmp_path / "repositories") as server:
        yield pack, server.url(pack)


def workflow() -> dict[str, Any]:
    """Return a workflow that uses the model and the custom node of the config."""
    graph: dict[str, Any] = workflows.text_to_image()
    graph["1"]["inputs"]["ckpt_name"] = MODEL
    graph["dim"] = workflows.node("TestsDimmed", "Dimmed", image=["6", 0])
    graph[workflows.SAVE]["inputs"]["images"] = ["dim", 0]
    return graph


async def test_a_machine_is_made_ready_and_runs_what_needs_it(
    machine: Machine, repository: tuple[GitRepository, str]
) -> None:
    """The config's model and custom node are there afterwards, and a workflow with both makes its picture."""
    url = f"{machine.server.url}/files/{MODEL}"
    machine.write(
        models=[{"url": url, "destination": "checkpoints"}], nodes=[{"url": repository[1], "version": "latest"}]
    )
    done = await machine.call("config", "apply", "--json")
    assert done.code == 0, done.err
    assert {item["key"]: item["status"] for item in done.json()["items"]} == {
        f"checkpoints/{MODEL}": "done", "ComfyUI-Dimmed": "done", "packages": "done",
    }  # fmt: skip
    machine.server.asked.clear()
    again = await machine.call("config", "apply", "--json")
    assert (again.json()["unchanged"], machine.server.asked) == (True, [])
    (machine.cwd / "workflow.json").write_text(json.dumps(workflow()), encoding="utf-8")
    ran = await machine.call("run", "workflow.json", "--json")
    assert ran.code == 0, ran.err
    assert ran.json()["status"] == "succeeded"


async def test_a_running_worker_has_what_is_applied_beside_it(
    machine: Machine, repository: tuple[GitRepository, str]
) -> None:
    """A model appears at once; for a custom node the worker starts its ComfyUI anew, and jobs meanwhile wait for it."""
    url = f"{machine.server.url}/files/{MODEL}"
    async with serving(None, machine.cwd / "state", environ=machine.variables) as server, session(server) as client:
        await ready(server)
        machine.write(models=[{"url": url, "destination": "checkpoints"}])
        assert (await machine.call("config", "apply")).code == 0
        graph = workflow()
        graph[workflows.SAVE]["inputs"]["images"] = ["6", 0]
        del graph["dim"]
        code, answer = await post(client, "/runsync", {"input": {"workflow": graph}})
        assert (code, answer["status"]) == (200, "COMPLETED"), answer
        machine.write(models=[{"url": url, "destination": "checkpoints"}], nodes=[{"url": repository[1]}])
        done = await machine.call("config", "apply", "--no-check")
        assert done.code == 0, done.err
        assert "starts its ComfyUI anew" in done.err
        await eventually(lambda: any(line["event"] == "comfyui.nodes_changed" for line in server.log()), within_s=30)
        code, answer = await post(client, "/runsync", {"input": {"workflow": workflow()}})
        assert (code, answer["status"]) == (200, "COMPLETED"), answer
        assert not any(line["event"] == "comfyui.crashed" for line in server.log())


def is_fetching(machine: Machine) -> bool:
    """Tell whether a part of a model is there."""
    return any(path.stat().st_size for path in (machine.base_dir / "models").rglob("*.part"))


def is_placed(machine: Machine) -> bool:
    """Tell whether the custom node lies in its folder."""
    return (machine.base_dir / "custom_nodes/ComfyUI-Dimmed").is_dir()


def is_noted(machine: Machine) -> bool:
    """Tell whether a model was noted."""
    return (machine.base_dir / ".comfyworker/models.json").is_file()


@pytest.mark.parametrize("moment", [is_fetching, is_placed, is_noted], ids=lambda moment: moment.__name__)
async def test_a_killed_apply_goes_on_where_it_stopped(
    machine: Machine, repository: tuple[GitRepository, str], moment: Callable[[Machine], bool]
) -> None:
    """Killed with -9 at any moment, the next one ends in the same good state, and fetches only what was missing."""
    machine.server.add("big.safetensors", Model(BIG, stalls_after=24_000_000))
    machine.write(
        models=[
            {"url": f"{machine.server.url}/files/big.safetensors", "destination": "loras"},
            {"url": f"{machine.server.url}/files/{MODEL}", "destination": "checkpoints"},
        ],
        nodes=[{"url": repository[1]}],
    )
    process = await machine.start("config", "apply", "--no-check")
    await eventually(lambda: moment(machine), within_s=60)
    process.kill()
    await process.communicate()
    machine.server.released.set()
    done = await machine.call("config", "apply", "--no-check", "--json")
    assert done.code == 0, done.err
    planned = await machine.call("config", "plan", "--json")
    assert planned.json()["is_empty"]
    assert (machine.base_dir / "models/loras/big.safetensors").read_bytes() == BIG
    assert (machine.base_dir / "custom_nodes/ComfyUI-Dimmed/__init__.py").read_text() == PACK
    assert not list((machine.base_dir / "models").rglob("*.part*"))
    assert not list((machine.base_dir / ".comfyworker").rglob("lease.json"))


async def test_of_two_workers_one_works_and_the_other_takes_over_from_a_dead_one(machine: Machine) -> None:
    """The second one waits and shows how far the first is; when that is killed, it goes on at once."""
    machine.server.add("big.safetensors", Model(BIG, stalls_after=24_000_000))
    machine.write(models=[{"url": f"{machine.server.url}/files/big.safetensors", "destination": "loras"}])
    first = await machine.start("config", "apply")
    await eventually(lambda: is_fetching(machine), within_s=60)
    second = await machine.start("config", "apply", "--json")
    assert second.stderr is not None
    line = await asyncio.wait_for(second.stderr.readline(), timeout=60)
    assert b"Another worker" in line
    first.kill()
    await first.communicate()
    machine.server.released.set()
    out, err = await asyncio.wait_for(second.communicate(), timeout=APPLY_WITHIN_S)
    assert second.returncode == 0, err
    assert [item["status"] for item in json.loads(out)["items"]] == ["done"]
    assert (machine.base_dir / "models/loras/big.safetensors").read_bytes() == BIG


async def test_ctrl_c_leaves_a_clean_state_and_says_how_to_go_on(machine: Machine) -> None:
    """What came is kept, nobody holds the volume, and the exit code is the one of an interruption."""
    machine.server.add("big.safetensors", Model(BIG, stalls_after=24_000_000))
    machine.write(models=[{"url": f"{machine.server.url}/files/big.safetensors", "destination": "loras"}])
    process = await machine.start("config", "apply")
    await eventually(lambda: is_fetching(machine), within_s=60)
    done = await stop(process, signal.SIGINT)
    assert done.code == 130
    assert "the same command goes on where it stopped" in done.err
    assert "Traceback" not in done.err
    assert not list((machine.base_dir / ".comfyworker").rglob("lease.json"))
    machine.server.released.set()
    await eventually(lambda: machine.server.open["big.safetensors"] == 0)  # or what the first one was sent would count
    machine.server.sent.clear()
    assert (await machine.call("config", "apply")).code == 0
    assert machine.server.sent["big.safetensors"] < len(BIG)


async def test_mistakes_are_named_before_anything_is_done(machine: Machine) -> None:
    """Every mistake has its line; the exit code says that it failed."""
    (machine.cwd / "config.yml").write_text("models:\n  - url: https://e.org/a.pt\n    destinatoin: vae\n")
    for words in (("config", "validate"), ("config", "apply"), ("config", "plan")):
        done = await machine.call(*words)
        assert done.code == 1
        assert "did you mean 'destination'" in done.err
        assert "line 3" in done.err


async def test_models_by_hand(machine: Machine) -> None:
    """A model is pulled, listed, verified, and left by prune; a wrong call says what to write."""
    done = await machine.call("models", "pull", f"{machine.server.url}/files/{MODEL}")
    assert done.code == 2
    assert "--to" in done.err
    done = await machine.call("models", "pull", f"{machine.server.url}/files/{MODEL}", "--to", "checkpoint")
    assert done.code == 0, done.err
    listed = (await machine.call("models", "list", "--json")).json()["models"]
    assert [(model["place"], model["standing"]) for model in listed] == [(f"checkpoints/{MODEL}", "ours")]
    assert (await machine.call("models", "verify")).code == 0
    machine.write()
    assert (await machine.call("models", "prune", "--yes", "--json")).json()["models"] == []
