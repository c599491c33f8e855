"""The image's steps in an empty Debian, and the container's command in what they have made.

`make clean-root` runs this, as root; it takes about ten minutes, so all other runs leave it out. Not as in the image
are: Debian for Ubuntu, a torch for CPU, ComfyUI from this disk instead of GitHub; and SageAttention is not compiled.
COMFYWORKER_CLEAN_ROOT may name a folder with an empty Debian, which is copied then.
"""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import aiohttp
import pytest

from support import clean_root
from support.eventually import eventually
from support.image_root import Root, container, image_environ, missing_for_roots
from support.ports import free_port
from support.source import REPOSITORY

WANTED = os.environ.get("COMFYWORKER_CLEAN_ROOT", "")
pytestmark = [
    pytest.mark.skipif(not WANTED, reason="`make clean-root` runs it"),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Return a root in which every step of the Dockerfile but SageAttention's has been run, in its order."""
    kept = Path(WANTED) if WANTED.startswith("/") else None
    missing = missing_for_roots() or (kept or shutil.which("debootstrap") or "debootstrap is not installed")
    assert not isinstance(missing, str) or missing.startswith("/"), missing
    path = tmp_path_factory.mktemp("clean") / "root"
    path.mkdir()
    clean_root.make_debian(path, kept)
    root = clean_root.prepare(path, tmp_path_factory.mktemp("build"))
    environ = clean_root.step_environ
    root.do("/build/install-system.sh", environ=environ(SSHD="true"))
    root.do("/build/install-worker.sh", "/opt/comfyworker", "/build/runpod.lock", environ=environ())
    root.do("/build/build-package.sh", "/build/wheels", "/build/source", "/build/dev.lock", environ=environ())
    root.do("/build/install-wheels.sh", "/opt/comfyworker", "/build/wheels", environ=environ())
    tiny = environ(MODEL_TYPE="tiny", HF_TOKEN="hf_s3cr3t", CIVITAI_TOKEN="")
    root.do("/build/bake-models.sh", "/baked", "/build/source", "/var/cache/models/tiny", environ=tiny)
    repository = "file:///build/comfyui.git"
    comfyui = environ(COMFYUI_REPOSITORY=repository, COMFYUI_REF=clean_root.TAG)
    root.do("/build/install-comfyui.sh", "/comfyui", "/build/cpu.lock", environ=comfyui)
    root.do("/build/install-wheels.sh", "/comfyui/.venv", "/build/no-wheels", environ=environ())
    root.do("/build/install-jupyter.sh", "/opt/jupyter", "/build/jupyter.lock", environ=environ(JUPYTER="true"))
    shutil.copytree(path / "baked", path / "comfyui", dirs_exist_ok=True)
    root.do("/build/bake-nodes.sh", "/build/source", environ=tiny)
    shutil.rmtree(path / "baked")
    return root


def test_the_system_has_no_compiler_and_no_keys(root: Root) -> None:
    """There is nothing to build with, and no key of an SSH server that everybody would have."""
    for name in ("gcc", "cc", "g++", "make", "nvcc"):
        assert root.call("sh", "-c", f"command -v {name}", environ=image_environ()).returncode != 0
    assert list((root.path / "etc/ssh").glob("ssh_host_*")) == []


def test_the_two_environments_are_apart(root: Root) -> None:
    """The worker has RunPod's SDK and no torch; ComfyUI has torch and no worker."""
    probe = (
        "import importlib.util as u; print([bool(u.find_spec(name)) for name in ('torch', 'runpod', 'comfyworker')])"
    )
    said = [root.do(f"{place}/bin/python", "-c", probe, environ=image_environ()).strip()
            for place in ("/opt/comfyworker", "/comfyui/.venv")]  # fmt: skip
    assert said == ["[False, True, True]", "[True, False, False]"]


def test_doctor_finds_nothing_wrong(root: Root) -> None:
    """`comfyworker doctor` sees the ComfyUI, its torch and the baked model."""
    said = root.do("comfyworker", "doctor", environ=image_environ())
    assert "0 problems" in said
    assert "ComfyUI 0.3.75" in said
    assert "checkpoints 1" in said


def test_what_is_baked_counts_as_there(root: Root) -> None:
    """The same config asks for nothing more when the container starts; no token was kept."""
    config = root.path / "app/config.yml"
    config.write_text("models:\n  - {url: 'file:///build/tiny.safetensors', destination: checkpoints}\n", "utf-8")
    said = root.do("comfyworker", "config", "apply", "--only", "models", environ=image_environ())
    config.unlink()
    assert "all is there already" in said
    found = subprocess.run(
        ["grep", "-rlF", "hf_s3cr3t", root.path / "comfyui", root.path / "opt", root.path / "var"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert found.stdout == b""


def test_an_unknown_model_type_is_an_error(root: Root) -> None:
    """It names those that there are."""
    done = root.call("/build/bake-nodes.sh", "/build/source", environ=clean_root.step_environ(MODEL_TYPE="sd9"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no MODEL_TYPE 'sd9'. There is: base, config (what config.yml says), and tiny\n"
    )


async def test_the_container_starts_with_all_its_services(root: Root, tmp_path: Path) -> None:
    """Below tini: ComfyUI with the baked node, the API, Jupyter Lab and the SSH server; it ends with all of them."""
    root.do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/login", environ=image_environ())
    ports = {name: str(free_port()) for name in ("SERVE_PORT", "COMFYUI_PORT", "JUPYTER_PORT", "SSH_PORT")}
    environ = {
        **ports, "SERVE_API_LOCALLY": "true", "JUPYTER_PASSWORD": "s3cr3t-of-jupyter",
        "PUBLIC_KEY": (root.path / "root/login.pub").read_text("utf-8"),
    }  # fmt: skip
    (root.path / ".dockerenv").touch()
    words = ("tini", "--", "comfyworker-entrypoint", "comfyworker", "start")
    async with container(root, tmp_path, environ, *words) as made, aiohttp.ClientSession() as client:
        await made.logged("startup.ready")
        async with client.get(
            f"http://127.0.0.1:{ports['COMFYUI_PORT']}/object_info/{clean_root.NODE_CLASS}"
        ) as answer:
            assert clean_root.NODE_CLASS in await answer.json()
        body = {"input": {"workflow": json.loads((REPOSITORY / "examples/sunset.json").read_text("utf-8"))}}
        async with client.post(f"http://127.0.0.1:{ports['SERVE_PORT']}/runsync", json=body) as answer:
            assert (await answer.json())["status"] == "COMPLETED"

        async def statuses() -> tuple[int, int]:
            url = f"http://127.0.0.1:{ports['JUPYTER_PORT']}/api/contents"
            headers = {"Authorization": "token s3cr3t-of-jupyter"}
            async with client.get(url, headers=headers) as known, client.get(url) as stranger:
                return known.status, stranger.status

        async def is_up() -> bool:
            try:
                return await statuses() == (200, 403)
            except aiohttp.ClientError:
                return False

        await eventually(is_up, within_s=90)
        login = ["-i", "/root/login", "-p", ports["SSH_PORT"], "-o", "StrictHostKeyChecking=no", "root@127.0.0.1"]
        assert root.do("ssh", "-q", *login, "comfyworker --version", environ=image_environ()).startswith("comfyworker ")
        maps = (Path("/proc") / str(_worker(made.processes())) / "maps").read_text("utf-8")
        assert "libtcmalloc_minimal" in maps
        assert [name for name, state in made.processes().values() if state == "Z"] == []
        assert "s3cr3t-of-jupyter" not in made.text()
        assert await made.stop() == 0
    keys = root.path / "root/.ssh/authorized_keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert list((root.path / "etc/ssh").glob("ssh_host_*_key")) != []


def _worker(processes: dict[int, tuple[str, str]]) -> int:
    return min(pid for pid, (name, _) in processes.items() if name == "comfyworker")
