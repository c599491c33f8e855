"""A root folder with what the image has, at the places where it has it; processes run in it as in a container.

It needs root: namespaces of mounts and processes, and chroot. The network is this machine's own.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from comfyworker.comfyui.install_record import DATA_FOLDERS
from support.dockerfile import read_dockerfile
from support.eventually import eventually

_UP_WITHIN_S = 240.0
_END_WITHIN_S = 60.0
_OWN = ("app", "comfyui", "dev", "opt", "proc", "sys", "workspace")
"""What a root has for itself; all else of this machine is seen in it."""


def missing_for_roots() -> str | None:
    """Return what is not there of what roots need; None if nothing is missing."""
    if os.geteuid() != 0:
        return "only root can make mounts and namespaces"
    tools = [name for name in ("unshare", "chroot", "mount") if shutil.which(name) is None]
    return f"{', '.join(tools)}: not installed" if tools else None


@dataclass
class Root:
    """A root folder."""

    path: Path
    mounts: dict[str, Path] = field(default_factory=dict)
    """Where in it something of this machine is seen, with what."""

    def command(self, *words: str, environ: Mapping[str, str]) -> list[str]:
        """Return the call of a program as the first process of a container with this root."""
        lines = ["set -e"]
        for target, source in self.mounts.items():
            lines.append(shlex.join(["mount", "--rbind", str(source), f"{self.path}{target}"]))
        lines.append(shlex.join(["mount", "-t", "proc", "proc", f"{self.path}/proc"]))
        cwd = 'cd /app 2>/dev/null || cd /; exec "$@"'
        variables = [f"{name}={value}" for name, value in environ.items()]
        inside = ["env", "-i", *variables, "chroot", str(self.path), "sh", "-c", cwd, "sh", *words]
        lines.append(f"exec {shlex.join(inside)}")
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)]

    def call(self, *words: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end."""
        command = self.command(*words, environ=environ)
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def do(self, *words: str, environ: Mapping[str, str]) -> str:
        """Run a program in it, which must succeed; return what it said."""
        done = self.call(*words, environ=environ)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr


def image_environ() -> dict[str, str]:
    """Return the environment that the image gives its processes."""
    return {**read_dockerfile().environ("image"), "HOME": "/root"}


def lay_out(path: Path, *, comfyui: Path, worker: Path, scripts: Path) -> Root:
    """Make a root of this machine's system with the image's folders in it.

    Args:
        path: An empty folder.
        comfyui: A ComfyUI; what it writes goes into the root, not there.
        worker: The folder for /opt/comfyworker.
        scripts: Where docker/*.sh lie.
    """
    root = Root(path)
    _see_system(root)
    for name in _OWN:
        (path / name).mkdir(exist_ok=True)
    _see(root, "/dev", Path("/dev"))
    _see(root, "/opt/comfyworker", worker)
    _see_comfyui(root, comfyui)
    (path / ".dockerenv").touch()
    for script in scripts.glob("*.sh"):
        shutil.copy(script, path / "opt" / script.name)
    return root


def _see_system(root: Root) -> None:
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            (root.path / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir() and entry.name not in _OWN:
            _see(root, f"/{entry.name}", entry)
    for entry in sorted(Path("/opt").iterdir()):
        if entry.is_dir() and entry.name not in ("comfyworker", "jupyter"):
            _see(root, f"/opt/{entry.name}", entry)


def _see_comfyui(root: Root, comfyui: Path) -> None:
    for entry in sorted(comfyui.iterdir()):
        if entry.name not in DATA_FOLDERS and not entry.is_symlink():
            _see(root, f"/comfyui/{entry.name}", entry)
    for name in DATA_FOLDERS:
        (root.path / "comfyui" / name).mkdir()


def _see(root: Root, target: str, source: Path) -> None:
    place = root.path / target.removeprefix("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    root.mounts[target] = source


class Container:
    """Processes in a root, of which the first one stands for the container."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        """Know the process that holds the namespaces."""
        self.process = process
        self._log_path = log_path

    @property
    def init_pid(self) -> int:
        """The first process, as this machine numbers it."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        return int(text.split()[0])

    def text(self) -> str:
        """Return all that was written."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name that the worker has logged."""
        lines = [line for line in self.text().split("\n")[:-1] if line.startswith("{")]
        return [event for event in map(orjson.loads, lines) if event["event"] == name]

    async def logged(self, name: str) -> dict[str, Any]:
        """Wait for an event of this name; return the first one."""

        def found() -> list[dict[str, Any]]:
            assert self.process.returncode is None, self.text()[-4000:]
            return self.events(name)

        events: list[dict[str, Any]] = await eventually(found, within_s=_UP_WITHIN_S)
        return events[0]

    def processes(self) -> dict[int, tuple[str, str]]:
        """Return each process in it by its number on this machine, with its name and state."""
        found: dict[int, tuple[int, str, str]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                head, _, rest = (folder / "stat").read_text(encoding="utf-8").rpartition(") ")
                state, parent = rest.split()[:2]
                found[int(folder.name)] = (int(parent), head.partition("(")[2], state)
        inside, grown = {self.process.pid}, True
        while grown:
            more = {pid for pid, (parent, _, _) in found.items() if parent in inside} - inside
            inside, grown = inside | more, bool(more)
        return {pid: found[pid][1:] for pid in inside - {self.process.pid} if pid in found}

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the first process a signal, as `docker stop` does; return the exit code."""
        if self.process.returncode is None:
            os.kill(self.init_pid, number)
        async with asyncio.timeout(_END_WITHIN_S):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def container(root: Root, folder: Path, environ: Mapping[str, str], *words: str) -> AsyncIterator[Container]:
    """Start a container of a root; it is stopped when the context ends.

    Args:
        root: Its root.
        folder: Where its log is kept, on this machine.
        environ: More of its environment than the image's.
        words: What it runs.
    """
    log_path = folder / "container.log"
    command = root.command(*words, environ={**image_environ(), "LOG_FORMAT": "json", **environ})
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        made = Container(process, log_path)
        yield made
        await made.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
