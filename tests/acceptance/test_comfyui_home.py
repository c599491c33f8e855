"""A container's ComfyUI on a volume: placed at the first start by environment alone, and brought to another version."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from comfyworker.comfyui.installing.tree import copy_folder
from support import workflows
from support.command import Done, call, environment
from support.git_repositories import GitRepository, git
from support.node_packages import make_overlay
from support.ports import free_port
from support.real_comfyui import NODE_PACK, Install
from support.serving import post, serving, session


@pytest.fixture
def machine(comfyui_install: Install, tmp_path: Path) -> dict[str, str]:
    """Return the variables of a container with a real ComfyUI in its image, an empty volume, and a repository."""
    image, repository = tmp_path / "image", GitRepository(tmp_path / "repositories/ComfyUI")
    copy_folder(comfyui_install.path, image)
    shutil.copytree(NODE_PACK, image / "custom_nodes" / NODE_PACK.name)
    make_overlay(comfyui_install, image / ".venv")
    copy_folder(comfyui_install.path, repository.path)
    version = repository.path / "comfyui_version.py"
    version.write_text('__version__ = "0.3.76"\n')
    git(repository.path, "add", "--all", "--force")
    repository.commit(message="0.3.76")
    repository.tag("v0.3.76")
    (tmp_path / "volume").mkdir()
    return {
        "COMFYUI_HOME": str(tmp_path / "volume/ComfyUI"),
        "COMFYUI_IMAGE_PATH": str(image),
        "COMFYUI_REPOSITORY": repository.url,
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": "--cpu --disable-api-nodes",
        "SERVE_PORT": "0",
        "UV_OFFLINE": "1",
    }


def job() -> dict[str, Any]:
    """Return a request that takes no time to speak of."""
    return {"input": {"workflow": workflows.colour((1, 2, 3))}}


async def test_it_lands_on_a_volume_and_is_brought_to_another_version(machine: dict[str, str], tmp_path: Path) -> None:
    """The first start places it and serves a job; another version is proven, takes the place, and gives it back."""

    async def comfyui(*args: str) -> Done:
        return await asyncio.to_thread(call, "comfyui", *args, environ=environment(None, **machine), cwd=tmp_path)

    async with (
        serving(None, tmp_path / "state", environ=machine, command=("start",)) as server,
        session(server) as client,
    ):
        _, first = await post(client, "/runsync", job())
    assert first["status"] == "COMPLETED"
    assert "home" in {phase["name"] for phase in first["output"]["cold_start"]["phases"]}
    done = await comfyui("update", "--to", "0.3.76")
    taken = f"ComfyUI v0.3.76 ({commit(machine)}) has taken the place of 0.3.75."
    assert (done.code, done.out.splitlines()[:1]) == (0, [taken]), done.err
    told = (await comfyui("status", "--json")).json()
    assert (told["current"]["ref"], told["previous"]["version"]) == ("v0.3.76", "0.3.75")
    back = await comfyui("rollback")
    assert (back.code, back.out.splitlines()[0].partition(" is ")[0]) == (0, "ComfyUI 0.3.75")


def commit(machine: dict[str, str]) -> str:
    """Return the first digits of the release's commit."""
    return git(Path(machine["COMFYUI_REPOSITORY"].removeprefix("file://")), "rev-parse", "v0.3.76")[:7]


def test_what_is_not_this_machines_to_change(tmp_path: Path) -> None:
    """Beside COMFY_API_URL, and without any ComfyUI, the commands say what to do."""
    remote = call("comfyui", "update", environ=environment(COMFY_API_URL="http://127.0.0.1:9"), cwd=tmp_path)
    assert (remote.code, "COMFY_API_URL is not this machine's to change" in remote.err) == (1, True)
    none = call("comfyui", "status", environ=environment(COMFYUI_HOME=str(tmp_path / "ComfyUI")), cwd=tmp_path)
    assert (none.code, "[comfyui_not_found]" in none.err) == (1, True)
