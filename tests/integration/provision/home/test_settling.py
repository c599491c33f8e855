"""ComfyUI placed where it shall live: once, whole, by one of several, and never over what others have made."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfyworker.comfyui.home import read_home, trees_folder
from comfyworker.comfyui.overlay import list_packages, read_overlay, site_packages
from comfyworker.comfyui.settlement import find_unsettled
from comfyworker.errors import ComfyUINotFound, InsufficientStorage
from comfyworker.provision.home import settle_comfyui
from comfyworker.settings import ComfyUISettings, ProvisionSettings
from support.git_repositories import git
from support.homes import found, make_image, make_releases, offline, settings_for, snapshot, tree_files
from support.node_packages import make_wheel

TESTS = Path(__file__).parents[3]
SETTLE = """
import asyncio, sys
from pathlib import Path
from comfyworker.errors import WorkerError
from comfyworker.provision.home import settle_comfyui
from comfyworker.settings import ProvisionSettings
from support.homes import settings_for
home, image = map(Path, sys.argv[1:3])
try:
    asyncio.run(settle_comfyui(settings_for(home, image), ProvisionSettings(), cwd=home.parent))
except WorkerError as error:
    left = [str(path) for path in home.rglob("*") if path.is_file() and path.name != "lease.json"]
    print(error.code, error.message, left)
"""


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels that is all that uv knows."""
    for name, value in offline(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the ComfyUI of an image."""
    return make_image(tmp_path / "image/ComfyUI")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return where ComfyUI shall live: on a volume that is empty."""
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume/ComfyUI"


async def settle(home: Path, image: Path | None) -> None:
    """See that ComfyUI is there, as a worker's start does."""
    await settle_comfyui(settings_for(home, image), ProvisionSettings(), cwd=home.parent)


def process(home: Path, image: Path, *wrapper: str) -> subprocess.Popen[str]:
    """Start a worker's placing in a process of its own."""
    command = [*wrapper, sys.executable, "-c", SETTLE, str(home), str(image)]
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


def run(*command: str) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def times(folder: Path) -> dict[Path, int]:
    """Return when each file below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def own_packages(python: Path) -> set[str]:
    """Return the packages that a home has in front of the image's."""
    site, note = site_packages(python), read_overlay(python.parent.parent)
    assert site is not None
    assert note is not None
    return set(list_packages(site)) - set(note.below)


async def test_the_first_start_places_it_and_the_second_does_nothing(home: Path, image: Path) -> None:
    """Code, custom nodes, workflows and inputs come along; models and pictures stay; torch is the image's."""
    await settle(home, image)
    installation = found(home, image)
    assert (installation.version, installation.base_dir, installation.home) == ("0.3.75", home, home)
    assert installation.path == trees_folder(home) / "0.3.75-image"
    assert installation.base_python == image / ".venv/bin/python"
    assert installation.image_models == image / "models"
    assert snapshot(home).keys() == {
        "custom_nodes/Baked/__init__.py", "custom_nodes/example_node.py.example", "input/example.png",
        "models/configs/v1-inference.yaml", "user/default/workflows/own.json",
    }  # fmt: skip
    code = "import torch, sys; print(torch.__version__, torch.__file__)"
    assert run(str(installation.python), "-c", code).startswith(f"2.9.0 {image}")
    before = times(home)
    assert find_unsettled(settings_for(home, image), cwd=home.parent) is None
    await settle(home, image)
    assert times(home) == before


async def test_what_was_on_the_volume_stays(home: Path, image: Path) -> None:
    """Models, workflows and custom nodes of the user's are there before ComfyUI is, and are left as they are."""
    mine = {
        "models/checkpoints/mine.safetensors": "mine",
        "custom_nodes/Baked/__init__.py": "mine",
        "user/default/workflows/own.json": "mine",
    }
    for name, content in mine.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(content)
    await settle(home, image)
    assert {name: (home / name).read_text() for name in mine} == mine
    assert found(home, image).version == "0.3.75"


async def test_workers_that_start_at_once_place_it_once(home: Path, image: Path) -> None:
    """On one empty volume all of them come up with the same ComfyUI, and nothing is left over."""
    workers = [process(home, image) for _ in range(3)]
    said = await asyncio.gather(*(asyncio.to_thread(worker.communicate) for worker in workers))
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    assert [entry.name for entry in trees_folder(home).iterdir()] == ["0.3.75-image"]
    assert len(list((home / ".comfyworker/environments").iterdir())) == 1
    assert sum("home.landing" in out for out, _ in said) == 1
    assert found(home, image).version == "0.3.75"


def test_killed_at_any_point_the_next_start_finishes(image: Path, tmp_path: Path) -> None:
    """After kill -9 there is no ComfyUI or a whole one; the next start has it whole, and leaves nothing lying about."""
    root = tmp_path / "volumes"
    root.mkdir()
    command = [sys.executable, str(TESTS / "support/killed_settling.py"), str(image), str(root)]
    environ = {**os.environ, "PYTHONPATH": str(TESTS), "LOG_LEVEL": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) >= 5
    assert {line["was_home"] for line in lines} == {False, True}
    for line in lines:
        assert {key: line[key] for key in line if key not in {"number", "was_home"}} == {
            "version": "0.3.75", "python": True, "workflow": "{}", "trees": ["0.3.75-image"], "environments": 1,
            "custom_nodes": ["Baked", "example_node.py.example"],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "said"), [pytest.param("2m", "the disk has no room", id="seen"), pytest.param("80m", "is full", id="met")]
)
def test_a_full_disk(image: Path, tmp_path: Path, size: str, said: str) -> None:
    """A volume without room is told before anything is written; one that is full in the middle keeps no half of it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # A link tells nothing of how much it leads to.
    (tmp_path / "large").write_bytes(bytes(100_000_000))
    (image / "comfy/large.bin").symlink_to(tmp_path / "large")
    script = f'mount -t tmpfs -o size={size} tmpfs {disk} && exec "$@"'
    worker = process(
        disk / "ComfyUI", image, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"
    )
    out, err = worker.communicate()
    assert worker.returncode == 0, err
    last = out.splitlines()[-1]
    assert last.startswith(InsufficientStorage.code)
    assert said in last
    assert last.endswith(" []")


async def test_a_clone_that_others_made_is_used_and_not_written_to(home: Path, image: Path, tmp_path: Path) -> None:
    """What `git clone` left on the volume is started as it is, with the image's Python and packages of its own."""
    releases = make_releases(tmp_path / "official", ("v0.3.70", tree_files("0.3.70", requirements="politeness\n")))
    make_wheel(tmp_path / "wheels", "politeness", "1.0")
    git(home.parent, "clone", "--quiet", releases.url, str(home))
    before = snapshot(home)
    await settle(home, image)
    installation = found(home, image)
    assert (installation.path, installation.version, read_home(home)) == (home, "0.3.70", None)
    assert own_packages(installation.python) == {"politeness-1.0"}
    assert snapshot(home) == before
    assert git(home, "status", "--porcelain") == "?? .comfyworker/"
    assert find_unsettled(settings_for(home, image), cwd=home.parent) is None


async def test_behind_another_image_packages_are_made_anew(home: Path, image: Path, tmp_path: Path) -> None:
    """Packages for one torch never meet another; behind the first image again, they are there at once."""
    make_wheel(tmp_path / "wheels", "politeness", "1.0")
    await settle(home, image)
    first = found(home, image)
    run(sys.executable, "-m", "uv", "pip", "install", "--python", str(first.python), "politeness")
    other = make_image(tmp_path / "newer/ComfyUI", version="0.3.80", torch="2.10.0")
    make_wheel(tmp_path / "wheels", "politeness", "1.1")
    (tmp_path / "wheels/politeness-1.0-py3-none-any.whl").unlink()
    assert find_unsettled(settings_for(home, other), cwd=home.parent) == home
    await settle(home, other)
    second = found(home, other)
    assert (second.version, second.base_python) == ("0.3.75", other / ".venv/bin/python")
    assert second.python != first.python
    assert own_packages(second.python) == {"politeness-1.1"}
    assert find_unsettled(settings_for(home, image), cwd=home.parent) is None
    assert found(home, image) == first
    assert own_packages(first.python) == {"politeness-1.0"}


async def test_nothing_to_place_is_told(home: Path) -> None:
    """Without a ComfyUI of an image, the error says what to do."""
    with pytest.raises(ComfyUINotFound, match="COMFYUI_HOME") as caught:
        await settle(home, None)
    assert "COMFYUI_IMAGE_PATH" in (caught.value.hint or "")


async def test_without_comfyui_home_nothing_is_placed(image: Path, home: Path) -> None:
    """It runs from the image, and the volume stays empty."""
    settings = ComfyUISettings(image_path=image)
    await settle_comfyui(settings, ProvisionSettings(), cwd=home.parent)
    assert times(home) == {}
