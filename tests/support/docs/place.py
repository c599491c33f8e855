"""Where a page is followed: a work folder, programs, and servers in the place of those that the page names."""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.command import environment
from support.docs.belongings import make_files
from support.docs.blocks import DocBlock, surroundings
from support.file_server import FileServer
from support.object_store import ObjectStore
from support.ports import free_port
from support.real_comfyui import CHECKPOINT_NAME, RealComfyUI
from support.source import REPOSITORY
from support.webhook_receiver import Answer, WebhookReceiver

SERVER = re.compile(r"^(?:\w+=\S+\s+)*comfyworker\s+(?:serve|start|vast)\b(?!.*--(?:help|test))", re.DOTALL)
"""A command that ends only when it is told to."""
STORE, BUCKET = "https://s3.eu-central-1.amazonaws.com", "my-bucket"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
STORAGE = "storage"
"""Among a page's surroundings: the variables of the object store are set."""
RETRY = "comfyworker webhooks retry"
"""What it sends is taken; where a page enters it, what came before was not."""
MODELS = ("flux1-dev-fp8.safetensors", "my-model.safetensors")
"""Checkpoints that the reader has."""
RECEIVER, FILES = "https://shop.example.com", "https://cdn.example.com"
CHECKOUT = ("examples", "configs", "docs/pictures", "config.example.yml", "test_input.json")
"""What a page's reader has of the repository."""

_LOCAL = r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0)"
_PORT = re.compile(rf"(?:{_LOCAL}:|--port[ =]|_PORT=|\"{_LOCAL}?\", )(\d{{4,5}})\b")
_FOLDER = re.compile(r"(?:(?<![\w./-])|(?<=file://))(/data|/var/lib/comfyworker|/runpod-volume|/workspace)(?![\w.-])")
_FILE = re.compile(rf"{re.escape(FILES)}(/[\w./-]+)")

_PIP = """#!/bin/bash
# `pip install NAME`: `python` becomes that of the environment which has it.
[ "$1" = install ] || {{ echo "pip: the tests know install only" >&2; exit 2; }}
for wanted in "${{@:2}}"; do
    case $wanted in -*) continue ;; esac
    name=${{wanted%%[<>=!~[]*}}; name=${{name//-/_}}; found=
    for python in {pythons}; do
        if compgen -G "${{python%/bin/python}}/lib/python*/site-packages/${{name,,}}-*.dist-info" > /dev/null; then
            found=$python; break
        fi
    done
    [ "$found" ] || {{ echo "pip: no environment of the tests has $wanted" >&2; exit 1; }}
    printf '#!/bin/sh\\nexec %s "$@"\\n' "$found" > {bin}/python
done
"""
_PYTHONS = (
    Path(sys.executable),
    *(REPOSITORY / f"workspace/{name}/.venv/bin/python" for name in ("clients", "runpod", "vastai")),
)


@dataclass(frozen=True)
class Shared:
    """What the pages of a run have together; each is started when it is first asked for."""

    comfyui: RealComfyUI
    object_store: Callable[[], ObjectStore]
    server_port: Callable[[], int]
    """Of the server that pages talk to which start none."""


@dataclass
class Place:
    """Where one page is followed."""

    folder: Path
    """Where its reader works."""
    environ: dict[str, str]
    receiver: WebhookReceiver
    own: dict[str, str] = field(default_factory=dict)
    """What stands here for what the page names."""
    ports: dict[str, str] = field(default_factory=dict)

    def put_in(self, text: str) -> str:
        """Return a text of the page with our own names in it."""
        for shown, mine in self.own.items():
            text = text.replace(shown, mine)
        text = _FOLDER.sub(lambda match: f"{self.folder}{match[1]}", text)
        return re.sub(r"\b\d{4,5}\b", lambda match: self.ports.get(match[0], match[0]), text)

    def take_out(self, text: str) -> str:
        """Return a text that came with the page's names in it."""
        for shown, mine in self.own.items():
            text = text.replace(mine, shown)
        return text.replace(str(self.folder), "")


@contextlib.asynccontextmanager
async def place_for(page: Path, blocks: list[DocBlock], shared: Shared, tmp_path: Path) -> AsyncIterator[Place]:
    """Make what a page's blocks need, below `tmp_path`."""
    text = "\n".join(block.text for block in blocks if not block.not_run)
    folder = tmp_path / "work"
    folder.mkdir()
    _check_out(folder)
    given = surroundings(page)
    make_files(given - {STORAGE}, folder)
    refused = [Answer(503)] * 20 if RETRY in text else []
    async with WebhookReceiver(*refused) as receiver, _files(text, shared) as files:
        place = Place(folder, _environ(shared.comfyui, tmp_path), receiver)
        place.ports = _ports(text, blocks, shared)
        place.environ["SERVE_PORT"] = place.ports.get("8000", "0")
        place.own |= {RECEIVER: receiver.url(""), FILES: files.url(""), "/home/me/ComfyUI": _install(shared)}
        place.own |= {"/home/me/comfyworker": str(folder), **dict.fromkeys(MODELS, CHECKPOINT_NAME)}
        if {RECEIVER, FILES} & set(re.findall(r"https://\w+\.example\.com", text)):
            place.environ["ALLOW_PRIVATE_URLS"] = "true"
        if STORE in text or STORAGE in given:
            await _have_store(place, shared.object_store(), preset=STORAGE in given)
        _make_programs(tmp_path / "bin")
        yield place


def _check_out(folder: Path) -> None:
    for name in CHECKOUT:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    _sample_little(folder / "examples/text-to-image.json")
    for name in ("data", "runpod-volume", "workspace", "var/lib"):
        (folder / name).mkdir(parents=True)
    _have_set_up(folder)


def _sample_little(path: Path) -> None:
    """Have an example sample in a moment: what the tests' checkpoint makes is noise, of whatever size."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    inputs = {node["_meta"]["title"]: node["inputs"] for node in graph.values()}
    inputs["Size"].update(width=64, height=64)
    inputs["Sampler"].update(steps=2)
    path.write_text(json.dumps(graph), encoding="utf-8")


def _have_set_up(folder: Path) -> None:
    """Have what the first `make` makes, so that this one finds nothing to do: it took minutes."""
    shutil.copy(REPOSITORY / "Makefile", folder)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    for name in ("requirements/dev.lock", "pyproject.toml", "workspace/ComfyUI/.comfyworker-install.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        os.utime(folder / name, (0, 0))


def _environ(comfyui: RealComfyUI, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    own = {"STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    return {**environment(comfyui, **own), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BENCHMARK_RUNS": "1"}


def _ports(text: str, blocks: Iterable[DocBlock], shared: Shared) -> dict[str, str]:
    starts = any(SERVER.match(line.removeprefix("$ ")) for block in blocks for line in block.text.splitlines())
    ports = dict.fromkeys(_PORT.findall(text), "") | ({"8000": ""} if starts else {})
    for port in ports:
        if port == "8188":
            ports[port] = str(shared.comfyui.port)
        elif port == "8000" and not starts:
            ports[port] = str(shared.server_port())
        else:
            ports[port] = str(free_port())
    return ports


def _install(shared: Shared) -> str:
    return str(shared.comfyui.install.path)


async def _have_store(place: Place, store: ObjectStore, *, preset: bool) -> None:
    bucket = await store.make_bucket()
    variables = store.variables(bucket)
    # Our store has a region that no host tells.
    place.own[f'"bucket_name": "{BUCKET}"'] = f'"bucket_name": "{bucket}", "region": "{variables["BUCKET_REGION"]}"'
    place.own |= {STORE: store.endpoint_url, BUCKET: bucket, KEY: store.access_key_id, SECRET: store.secret_access_key}
    place.environ |= variables if preset else {"BUCKET_REGION": variables["BUCKET_REGION"]}
    place.environ["ALLOW_PRIVATE_URLS"] = "true"


@contextlib.asynccontextmanager
async def _files(text: str, shared: Shared) -> AsyncIterator[FileServer]:
    picture = (REPOSITORY / "examples/input.png").read_bytes()
    async with FileServer() as server:
        for path in _FILE.findall(text):
            server.files[path] = (picture, "image/png")
            if path.endswith(".safetensors"):
                model = next((shared.comfyui.base_dir / "models/checkpoints").iterdir())
                server.files[path] = (model.read_bytes(), "application/octet-stream")
        yield server


def _make_programs(folder: Path) -> None:
    """Make `comfyworker`, `python` and `pip`."""
    folder.mkdir()
    python = Path(sys.executable)
    (folder / "comfyworker").write_text(f'#!/bin/sh\nexec {python} -m comfyworker "$@"\n', encoding="utf-8")
    (folder / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n', encoding="utf-8")
    pythons = " ".join(str(path) for path in _PYTHONS)
    (folder / "pip").write_text(_PIP.format(pythons=pythons, bin=folder), encoding="utf-8")
    for program in folder.iterdir():
        program.chmod(0o755)
