"""A real ComfyUI on CPU, with our node pack and a tiny checkpoint."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from support.keeper import Plan
from support.ports import free_port
from support.processes import is_running

TESTS = Path(__file__).resolve().parent.parent
REPOSITORY = TESTS.parent
LAUNCHER = REPOSITORY / "src/comfyworker/comfyui/_launch.py"
NODE_PACK = TESTS / "comfyui_nodes"
CHECKPOINT_SCRIPT = TESTS / "make_checkpoint.py"
CACHE = REPOSITORY / ".cache"
CHECKPOINT_NAME = "tiny-sd3.safetensors"
"""The checkpoint's name in models/checkpoints of every ComfyUI that the tests start."""
FLAGS = ("--cpu", "--disable-api-nodes", "--disable-auto-launch")


@dataclass(frozen=True)
class Install:
    """A ComfyUI on disk."""

    path: Path
    """The folder that holds main.py."""
    python: Path
    """The interpreter of its environment."""

    def command(self, base_dir: Path, port: int) -> list[str]:
        """Return the command line that serves it on `port`."""
        main = [str(self.python), str(LAUNCHER), str(self.path / "main.py")]
        return [*main, *FLAGS, "--base-directory", str(base_dir), "--port", str(port)]


@dataclass(frozen=True)
class RealComfyUI:
    """A ComfyUI that runs."""

    url: str
    port: int
    pid: int
    base_dir: Path
    log_path: Path
    install: Install

    @property
    def input_dir(self) -> Path:
        """Where LoadImage looks."""
        return self.base_dir / "input"

    @property
    def output_dir(self) -> Path:
        """Where SaveImage writes."""
        return self.base_dir / "output"

    @property
    def temp_dir(self) -> Path:
        """Where PreviewImage writes."""
        return self.base_dir / "temp"

    def log_tail(self, size_bytes: int = 4000) -> str:
        """Return the last part of ComfyUI's log."""
        return self.log_path.read_bytes()[-size_bytes:].decode(errors="replace")

    def is_running(self) -> bool:
        """Whether the process is still there."""
        return is_running(self.pid)


def find_install(environ: Mapping[str, str]) -> Install:
    """Return the ComfyUI to test with: COMFYUI_PATH, else the one that `comfyworker comfyui install` made here.

    Raises:
        RuntimeError: There is none.
    """
    path = Path(environ.get("COMFYUI_PATH") or REPOSITORY / "workspace/ComfyUI").resolve()
    python = Path(environ.get("COMFYUI_PYTHON") or path / ".venv/bin/python")
    if not (path / "main.py").is_file() or not python.exists():
        message = (
            f"the integration tests need a ComfyUI; there is none at {path} with an interpreter {python}. "
            "`comfyworker comfyui install` makes one there; COMFYUI_PATH (and COMFYUI_PYTHON) name another."
        )
        raise RuntimeError(message)
    return Install(path, python)


def comfyui_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a ComfyUI that must not ask the network for anything."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def make_checkpoint(install: Install, environ: Mapping[str, str]) -> Path:
    """Return the tiny checkpoint, made once for each version of its script and kept in the repository's .cache."""
    version = hashlib.sha256(CHECKPOINT_SCRIPT.read_bytes()).hexdigest()[:12]
    path = CACHE / f"tiny-sd3-{version}.safetensors"
    CACHE.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            command = [str(install.python), str(CHECKPOINT_SCRIPT), str(path)]
            done = subprocess.run(
                command, cwd=install.path, env=comfyui_environ(environ), capture_output=True, text=True, check=False
            )
            if done.returncode:
                message = f"the checkpoint for the tests could not be made:\n{done.stderr}"
                raise RuntimeError(message)
    return path


def lay_out(base_dir: Path, checkpoint: Path) -> Path:
    """Make the folders of a ComfyUI in `base_dir`, with our node pack and the checkpoint; return `base_dir`."""
    checkpoints = base_dir / "models/checkpoints"
    for folder in (checkpoints, base_dir / "custom_nodes", base_dir / "user", base_dir / "input", base_dir / "output"):
        folder.mkdir(parents=True)
    (checkpoints / CHECKPOINT_NAME).symlink_to(checkpoint)
    shutil.copytree(NODE_PACK, base_dir / "custom_nodes" / NODE_PACK.name, ignore=shutil.ignore_patterns("__pycache__"))
    return base_dir


def shared_comfyui(shared_dir: Path, owner_pid: int, environ: Mapping[str, str]) -> RealComfyUI:
    """Return the ComfyUI of this test run; the first process that asks starts it, the others wait for that.

    Args:
        shared_dir: A folder that all processes of the run know, and no other run.
        owner_pid: The process whose end ends ComfyUI.
        environ: The environment in which pytest was started.

    Raises:
        RuntimeError: It did not start, now or when another process asked.
    """
    record = shared_dir / "comfyui.json"
    with FileLock(shared_dir / "comfyui.lock"):
        if not record.exists():
            record.write_text(json.dumps(_start(shared_dir, owner_pid, environ), default=str), encoding="utf-8")
        state = json.loads(record.read_text(encoding="utf-8"))
    if state["error"]:
        raise RuntimeError(state["error"])
    install = Install(*(Path(part) for part in state["install"].values()))
    base_dir, log_path = Path(state["base_dir"]), Path(state["log_path"])
    return RealComfyUI(state["url"], state["port"], state["pid"], base_dir, log_path, install)


def _start(shared_dir: Path, owner_pid: int, environ: Mapping[str, str]) -> dict[str, object]:
    install = find_install(environ)
    base_dir = lay_out(shared_dir / "comfyui", make_checkpoint(install, environ))
    port = free_port()
    plan = Plan(
        owner_pid=owner_pid,
        command=install.command(base_dir, port),
        cwd=str(install.path),
        url=f"http://127.0.0.1:{port}",
        base_dir=str(base_dir),
        log_path=str(shared_dir / "comfyui.log"),
        environ=comfyui_environ(environ),
    )
    keeper = [sys.executable, str(TESTS / "support/keeper.py"), plan.to_json()]
    with (shared_dir / "keeper.log").open("wb") as log:
        done = subprocess.run(keeper, stdout=subprocess.PIPE, stderr=log, start_new_session=True, check=True)
    answer = json.loads(done.stdout or '{"error": "the keeper of ComfyUI ended; see keeper.log", "pid": 0}')
    return {**answer, "url": plan.url, "port": port, "base_dir": base_dir, "log_path": plan.log_path} | {
        "install": asdict(install)
    }
