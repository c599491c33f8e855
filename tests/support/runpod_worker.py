"""`comfyworker runpod` as a real process, in the environment that has RunPod's SDK."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from support.command import environment
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.runpod_platform import RunPodPlatform
from support.source import REPOSITORY

PYTHON = REPOSITORY / "workspace/runpod/.venv/bin/python"
COMMAND = (str(PYTHON), "-m", "comfyworker")
_END_WITHIN_S = 180.0
_UP_WITHIN_S = 60.0


class RunPodWorker:
    """A worker that runs, or ran."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        """Know a process that writes into `folder`."""
        self.process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """Return the events that it has logged; lines that are no events are left out."""
        lines = (self._folder / "stderr").read_bytes().split(b"\n")
        return [orjson.loads(line) for line in lines[:-1] if line.startswith(b"{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name."""
        return [event for event in self.log() if event["event"] == name]

    def stdout(self) -> str:
        """Return all that it wrote to stdout."""
        return (self._folder / "stdout").read_text(encoding="utf-8")

    def stderr(self) -> str:
        """Return all that it wrote to stderr."""
        return (self._folder / "stderr").read_text(encoding="utf-8")

    async def logged(self, name: str, *, within_s: float = _UP_WITHIN_S) -> dict[str, Any]:
        """Wait for an event of this name; return the first one."""

        def found() -> list[dict[str, Any]]:
            assert self.process.returncode is None or self.events(name), self.stderr()[-3000:]
            return self.events(name)

        events: list[dict[str, Any]] = await eventually(found, within_s=within_s)
        return events[0]

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        async with asyncio.timeout(_END_WITHIN_S):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def runpod_worker(
    platform: RunPodPlatform,
    folder: Path,
    environ: Mapping[str, str],
    *,
    command: str = "runpod",
    args: tuple[str, ...] = (),
) -> AsyncIterator[RunPodWorker]:
    """Start a worker of the platform; it is stopped when the context ends.

    Args:
        platform: Where it takes its jobs.
        folder: Its working folder, state and output.
        environ: More of its environment, as where ComfyUI is.
        command: What starts it.
        args: More of its command line.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    variables = {"STATE_DIR": str(folder / "state"), "LOG_FORMAT": "json", **platform.environ(), **environ}
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, command, *args, env=environment() | variables, cwd=folder, stdout=out, stderr=err
        )
    worker = RunPodWorker(process, folder)
    try:
        yield worker
        await worker.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def on_comfyui(comfyui: RealComfyUI) -> dict[str, str]:
    """Return the settings that lead a worker to a ComfyUI that runs."""
    return {"COMFY_API_URL": comfyui.url, "COMFYUI_BASE_DIR": str(comfyui.base_dir)}
