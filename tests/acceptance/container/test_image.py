"""The container's command as in the image: its folders, its environment, its entrypoint, and nothing else."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml
from filelock import FileLock

from support import workflows
from support.dockerfile import read_dockerfile
from support.image_root import Root, container, image_environ, lay_out, missing_for_roots
from support.ports import free_port
from support.processes import is_running
from support.real_comfyui import Install, RealComfyUI
from support.runpod_platform import RunPodPlatform
from support.runpod_worker import on_comfyui
from support.source import REPOSITORY
from support.vast_platform import VastPlatform
from support.vast_worker import PLAIN_BENCHMARK, vast_variables

MISSING = missing_for_roots()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"needs containers: {MISSING}")

SCRIPTS = REPOSITORY / "docker"
ENTRYPOINT = ("/opt/entrypoint.sh", *read_dockerfile().exec_form("image", "CMD"))


@pytest.fixture(scope="module")
def worker(_shared_dir: Path, comfyui_install: Install) -> Path:
    """Return a fresh /opt/comfyworker, made by the image's own steps once for the whole run."""
    base = _shared_dir / "image"
    folder = base / "comfyworker"
    base.mkdir(exist_ok=True)
    with FileLock(base / "lock"):
        if not (base / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make_worker(base, folder, comfyui_install)
            (base / "made").touch()
    return folder


def make_worker(base: Path, folder: Path, comfyui_install: Install) -> None:
    """Run the steps that make /opt/comfyworker; `folder` is seen there."""
    (base / "root").mkdir()
    root = lay_out(base / "root", comfyui=comfyui_install.path, worker=folder, scripts=SCRIPTS)
    kept = {name: value for name, value in os.environ.items() if _concerns_packages(name)}
    environ = {
        **kept, "HOME": str(Path.home()), "PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}",
        "PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "UV_VENV_CLEAR": "1",
    }  # fmt: skip
    locks, wheels, source = REPOSITORY / "requirements", base / "wheels", base / "source"
    source.mkdir()
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    root.do("/opt/install-worker.sh", "/opt/comfyworker", str(locks / "runpod.lock"), environ=environ)
    root.do("/opt/build-package.sh", str(wheels), str(source), str(locks / "dev.lock"), environ=environ)
    root.do("/opt/install-wheels.sh", "/opt/comfyworker", str(wheels), environ=environ)


@pytest.fixture
def root(worker: Path, comfyui_install: Install, tmp_path: Path) -> Root:
    """Return a root of the image of its own; what is written into it goes with the test."""
    path = tmp_path / "root"
    path.mkdir()
    return lay_out(path, comfyui=comfyui_install.path, worker=worker, scripts=SCRIPTS)


def _concerns_packages(name: str) -> bool:
    return name.startswith(("PIP_", "SSL_", "UV_")) or name.lower().endswith("_proxy")


async def run_job(port: int) -> str:
    """Have the server on `port` make a picture; return the job's status."""
    body = {"input": {"workflow": json.loads((REPOSITORY / "examples/sunset.json").read_text(encoding="utf-8"))}}
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        client.post("/runsync", json=body) as answer,
    ):
        return str((await answer.json())["status"])


def compose_environ() -> dict[str, str]:
    """Return what the compose file gives the container where no variable is set."""
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return {
        name: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value) for name, value in services["cpu"]["environment"].items()
    }


async def test_alone_it_serves_and_ends_as_the_first_process(root: Root, tmp_path: Path) -> None:
    """As the compose file starts it, but without an init: ComfyUI is laid out in the workspace, jobs are answered.

    It leaves no dead process behind, takes SIGTERM although the kernel shields a first process from signals that it
    does not handle, and ends with 0 and everything it started.
    """
    ports = {"SERVE_PORT": str(free_port()), "COMFYUI_PORT": str(free_port())}
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    root.mounts["/workspace"] = workspace
    environ = compose_environ()
    environ["COMFYUI_ARGS"] += " --disable-api-nodes"  # which would ask the internet
    async with container(root, tmp_path, {**environ, **ports}, *ENTRYPOINT) as made:
        await made.logged("startup.ready")
        assert await run_job(int(ports["SERVE_PORT"])) == "COMPLETED"
        assert made.events("start.host_chosen")[0]["chosen_by"] == "SERVE_API_LOCALLY"
        asked = root.call("/opt/healthcheck.sh", environ={**image_environ(), **ports})
        assert (asked.returncode, asked.stderr) == (0, "")
        asked = root.call("/opt/healthcheck.sh", environ={**image_environ(), "SERVE_PORT": str(free_port())})
        assert (asked.returncode, asked.stderr.startswith("not ready: ")) == (1, True)
        processes = made.processes()
        assert len(processes) > 1
        assert [name for name, state in processes.values() if state == "Z"] == []
        assert await made.stop() == 0
        assert [pid for pid in processes if is_running(pid)] == []
    assert {"ComfyUI", "state"} <= {entry.name for entry in workspace.iterdir()}
    assert not any((root.path / "comfyui/user").iterdir())


async def test_runpods_variables_make_it_take_jobs(root: Root, comfyui: RealComfyUI, tmp_path: Path) -> None:
    """On RunPod Serverless, with the SDK that the image has."""
    async with RunPodPlatform() as platform:
        ticket = await platform.submit(workflows.colour((1, 2, 3)))
        environ = {**platform.environ(), **on_comfyui(comfyui)}
        async with container(root, tmp_path, environ, *ENTRYPOINT) as made:
            await platform.wait(ticket)
            assert made.events("start.host_chosen")[0]["chosen_by"] == "RUNPOD_WEBHOOK_GET_JOB"
            assert await made.stop() == 0


async def test_vasts_variables_make_it_report(root: Root, comfyui: RealComfyUI, tmp_path: Path) -> None:
    """On Vast.ai's serverless workers, until the autoscaler has a score."""
    async with VastPlatform() as platform:
        benchmark = tmp_path / "benchmark.json"
        benchmark.write_text(json.dumps(PLAIN_BENCHMARK), encoding="utf-8")
        environ = {
            **vast_variables(platform, free_port()), **on_comfyui(comfyui), "BENCHMARK_JSON_PATH": str(benchmark),
        }  # fmt: skip
        async with container(root, tmp_path, environ, *ENTRYPOINT) as made:
            await platform.until_status(lambda status: status["max_perf"] > 0)
            assert made.events("start.host_chosen")[0]["chosen_by"] == "REPORT_ADDR, MASTER_TOKEN"
            assert await made.stop() == 0


async def test_it_can_be_stopped_before_it_is_up(root: Root, tmp_path: Path) -> None:
    """A SIGTERM while ComfyUI starts ends the container, too."""
    environ = {"SERVE_PORT": str(free_port()), "COMFYUI_PORT": str(free_port()), "COMFYUI_ARGS": "--cpu"}
    async with container(root, tmp_path, environ, *ENTRYPOINT) as made:
        await made.logged("comfyui.started")
        assert await made.stop() == 0


def test_an_image_without_the_side_services_says_so(tmp_path: Path) -> None:
    """What is asked for and was not built in is named, and the command runs all the same; no password is passed on."""
    if Path("/usr/sbin/sshd").exists() or Path("/opt/jupyter").exists():
        pytest.skip("this machine has what the test wants missing")
    done = subprocess.run(
        [SCRIPTS / "entrypoint.sh", "sh", "-c", "echo ran ${JUPYTER_PASSWORD-nothing}"],
        env={**os.environ, "PUBLIC_KEY": "ssh-ed25519 AAAA me", "JUPYTER_PASSWORD": "s3cr3t", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "ran nothing\n"
    assert "built without SSHD=true" in done.stderr
    assert "built without JUPYTER=true" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_below_an_init_signals_arrive() -> None:
    """With tini, as the image has it, the command becomes its child and hears of `docker stop`."""
    tini = shutil.which("tini")
    if tini is None:
        pytest.skip("tini is not installed here")
    program = "import signal as s; s.pthread_sigmask(0, [15]); print('up', flush=True); print(s.sigwait([15])); exit(7)"
    process = await asyncio.create_subprocess_exec(
        tini, "-s", "--", SCRIPTS / "entrypoint.sh", sys.executable, "-c", program, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.terminate()
    assert await process.stdout.read() == b"15\n"
    assert await process.wait() == 7
