"""Importing defines names and does nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.ports import free_port
from support.source import SOURCE, module_names

PROBE = """
import compileall, gc, importlib, json, logging, os, sys, threading

# What our modules import from others comes first, so that each of ours takes milliseconds and only it is watched.
import aiohttp, blake3, ctypes, fastapi, filecmp, obstore, orjson, packaging.markers, packaging.requirements, PIL.Image
import prometheus_client, pybase64, pydantic, rich.console, sqlite3, stamina, statistics, structlog, tomllib, typer
import uv, uvicorn, yaml

names = json.loads(sys.argv[2])
compileall.compile_dir(sys.argv[1], quiet=2)  # what an import compiles it writes down, which is not its module's doing
gc.disable()
gc.freeze()  # or each child would copy the pages of all objects that it inherits

WATCHED = {"socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.system", "os.putenv", "os.mkdir"}
seen = []

def watch(event, arguments):
    if event in WATCHED or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        if "__pycache__" not in str(arguments[0]):
            seen.append(f"{event} {arguments[0]}")

def look(name):
    # To import a module first is to import its packages, then itself; one that came with its package is done.
    if name in sys.modules:
        return tell(name, [])
    if os.fork():
        return os.wait()
    seen.clear()
    handlers = logging.getLogger().handlers[:]
    try:
        importlib.import_module(name)
    except BaseException as error:
        seen.append(repr(error))
    if logging.getLogger().handlers != handlers:
        seen.append("logging handlers")
    if threading.active_count() > 1:
        seen.append("threads")
    tell(name, seen)
    for other in names:
        if other.rpartition(".")[0] == name:
            look(other)
    os._exit(0)

def tell(name, found):
    os.write(sys.stdout.fileno(), json.dumps({"name": name, "seen": found}).encode() + b"\\n")

sys.addaudithook(watch)
look("comfyworker")
"""


def run(code: str, *arguments: str) -> str:
    """Return what a clean interpreter prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_module_imports_alone_and_does_nothing() -> None:
    """No module needs another to be imported first; none opens a socket, starts a process, writes or logs."""
    names = module_names()
    told = [json.loads(line) for line in run(PROBE, str(SOURCE / "comfyworker"), json.dumps(names)).splitlines()]
    assert {entry["name"]: entry["seen"] for entry in told} == {name: [] for name in names}
    assert len(told) == len(names)


def test_the_package_itself_imports_nothing() -> None:
    """`import comfyworker` loads nothing but itself: no third party's module, no room of ours."""
    code = (
        "import sys, json; before = set(sys.modules); import comfyworker; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert json.loads(run(code)) == ["comfyworker", "comfyworker._version"]


def test_no_room_brings_a_heavy_sdk() -> None:
    """Pillow and the SDKs of platforms and stores are imported where they are used, not with the rooms.

    The HTTP host is made of FastAPI; only `comfyworker serve` imports it.
    """
    code = (
        "import importlib, json, sys; [importlib.import_module(name) for name in json.loads(sys.argv[1])]; "
        "heavy = {'PIL', 'runpod', 'obstore', 'huggingface_hub', 'fastapi', 'torch', 'numpy'}; "
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    public = [name for name in module_names() if not any(part.startswith("_") for part in name.split("."))]
    rooms = [name for name in public if not name.startswith("comfyworker.hosts.http")]
    assert "comfyworker.cli.app" in rooms
    assert json.loads(run(code, json.dumps(rooms))) == []


SERVE = """
import io, json, os, signal, sys

heavy = {"PIL", "aiohttp", "attr", "cryptography", "fastapi", "huggingface_hub", "numpy", "obstore", "opentelemetry"}
heavy |= {"rich", "runpod", "stamina", "torch", "yaml"}
ours = (".documentation", ".documents", ".operations")

class Watch(io.TextIOBase):
    def write(self, text):
        if "serves http" in text:
            seen = sorted(name for name in sys.modules if name in heavy or name.endswith(ours))
            sys.__stdout__.write(json.dumps(seen))
            os.kill(os.getpid(), signal.SIGTERM)
        return len(text)

sys.stdout = Watch()
sys.argv[1:] = ["serve", "--port", "0"]
from comfyworker.cli import main
main()
"""


def test_serve_is_up_without_what_only_jobs_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`comfyworker serve` takes jobs before it has imported what speaks to ComfyUI, delivers, documents or draws."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COMFY_API_URL", f"http://127.0.0.1:{free_port()}")
    assert json.loads(run(SERVE)) == []


def test_version_loads_no_part_of_the_command() -> None:
    """`comfyworker --version` is answered by what the interpreter has loaded anyway, and a few small modules."""
    code = (
        "import contextlib, json, os, sys, typing; before = set(sys.modules); sys.argv = ['comfyworker', '--version']; "
        "from comfyworker.cli import main; main(); print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    version, loaded = run(code).splitlines()
    assert version.startswith("comfyworker ")
    assert json.loads(loaded) == ["__future__", "comfyworker", "comfyworker._version", "comfyworker.cli"]
