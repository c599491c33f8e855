"""The command ended from outside, with a ComfyUI that it started itself."""

import asyncio
import json
import signal
from pathlib import Path

import psutil
import pytest

from support import workflows
from support.command import environment, start, stop
from support.eventually import eventually
from support.ports import free_port
from support.processes import is_running
from support.real_comfyui import Install


def own_environment(base_dir: Path, install: Install) -> dict[str, str]:
    """Return the environment for a command that starts a ComfyUI on `base_dir`."""
    return environment(
        COMFYUI_PATH=str(install.path),
        COMFYUI_PYTHON=str(install.python),
        COMFYUI_BASE_DIR=str(base_dir),
        COMFYUI_PORT=str(free_port()),
        COMFYUI_ARGS="--cpu --disable-api-nodes",
    )


def family(pid: int) -> list[int]:
    """Return the ids of all processes below one."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


async def start_waiting_job(
    base_dir: Path, install: Install, cwd: Path
) -> tuple[asyncio.subprocess.Process, list[int]]:
    """Start a command whose job runs until it is stopped; return it with the processes below it."""
    pid_file = base_dir / "pids.json"
    graph = workflows.wait(steps=1, until_file=base_dir / "never")
    # The spawning node comes first: its processes tell that ComfyUI is at the job.
    graph["40"] = workflows.spawn(pid_file)["1"]
    (cwd / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")
    process = await start("run", "workflow.json", "--verbose", environ=own_environment(base_dir, install), cwd=cwd)
    assert process.stderr is not None
    while b"got prompt" not in await process.stderr.readline():
        assert process.returncode is None
    await eventually(pid_file.exists, within_s=60)
    spawned = list(json.loads(pid_file.read_text(encoding="utf-8")).values())
    return process, [*family(process.pid), *spawned]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
async def test_it_takes_everything_with_it(
    comfyui_base: Path, comfyui_install: Install, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM end the job, ComfyUI and all that it started; the exit code says which it was."""
    process, pids = await start_waiting_job(comfyui_base, comfyui_install, tmp_path)
    done = await stop(process, number)
    assert done.code == code
    assert "the job was taken back" in done.err
    assert "Traceback" not in done.err
    assert [pid for pid in pids if is_running(pid)] == []


async def test_killed_it_leaves_no_orphan(comfyui_base: Path, comfyui_install: Install, tmp_path: Path) -> None:
    """When the command itself is killed with SIGKILL, ComfyUI and all that it started end too."""
    process, pids = await start_waiting_job(comfyui_base, comfyui_install, tmp_path)
    assert len(pids) >= 4
    await stop(process, signal.SIGKILL)
    await eventually(lambda: [pid for pid in pids if is_running(pid)] == [], within_s=30)
