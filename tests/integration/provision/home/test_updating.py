"""Another version of ComfyUI: proven beside the one that is there, then in its place, and back in an instant."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from comfyworker.comfyui.home import read_home, trees_folder
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.overlay import list_packages, site_packages
from comfyworker.comfyui.renewal import read_mark
from comfyworker.errors import InstallFailed, InsufficientStorage
from comfyworker.provision.apply import Provisioner
from comfyworker.provision.home import Updater, settle_comfyui
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.reporting import ItemStatus
from comfyworker.provision.state import is_unchanged
from comfyworker.settings import ProvisionSettings
from support.eventually import eventually
from support.git_repositories import GitRepository, node_code
from support.homes import found, make_image, make_releases, offline, settings_for, tree_files
from support.node_packages import make_wheel
from support.provisioning import Ground, statuses

PICKY = """
from comfyui_version import __version__
assert __version__ != "0.3.77", "not with that one"
NODE_CLASS_MAPPINGS = {}
"""
WAITS = """
import os, pathlib, signal
pathlib.Path(os.environ["REACHED"]).touch()
signal.pause()
"""


class Told:
    """Keeps the steps and the sentences that it hears."""

    def __init__(self) -> None:
        """Begin with none."""
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, number: int, total: int, title: str) -> None:
        """Keep a step."""
        self.steps.append(f"{number}/{total} {title}")

    def line(self, text: str) -> None:
        """Pass over what a program prints."""

    def note(self, text: str) -> None:
        """Keep a sentence."""
        self.notes.append(text)


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels that is all that uv knows."""
    for name, value in offline(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    make_wheel(tmp_path / "wheels", "politeness", "1.0")
    make_wheel(tmp_path / "wheels", "politeness", "2.0")
    return tmp_path / "wheels"


@pytest.fixture
def releases(tmp_path: Path) -> GitRepository:
    """Return ComfyUI's repository: one that is there, one that needs more, one with which a custom node breaks."""
    return make_releases(
        tmp_path / "official",
        ("v0.3.75", tree_files("0.3.75", requirements="politeness==1.0\n")),
        ("v0.3.76", tree_files("0.3.76", requirements="politeness==2.0\n")),
        ("v0.3.77", tree_files("0.3.77", requirements="politeness==2.0\n")),
        ("v0.3.78", tree_files("0.3.78", main="raise SystemExit('no such thing')")),
    )


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """Return where ComfyUI 0.3.75 lives, placed there from an image."""
    image = await asyncio.to_thread(make_image, tmp_path / "image", requirements="politeness==1.0\n")
    (tmp_path / "volume").mkdir()
    home = tmp_path / "volume/ComfyUI"
    await settle_comfyui(settings_for(home, image), ProvisionSettings(), cwd=tmp_path)
    return home


def there(home: Path) -> Installation:
    """Return the ComfyUI as a worker would start it."""
    return found(home, home.parents[1] / "image")


def updater(home: Path, releases: GitRepository, told: Told | None = None) -> Updater:
    """Return what changes the version there."""
    return Updater(there(home), ProvisionSettings(), told or Told(), repository=releases.url)


def version_of(home: Path, package: str) -> str:
    """Return the version of a package that ComfyUI has, as its own Python says it."""
    command = [str(there(home).python), "-c", f"import {package}; print({package}.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def names(folder: Path) -> Sequence[str]:
    """Return the names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


async def test_an_update_and_the_way_back(home: Path, releases: GitRepository) -> None:
    """The new version has what it asks for, beside what the old one has; a worker is told; both ways are there."""
    before, mark = there(home), read_mark(home)
    told = Told()
    done = await updater(home, releases, told).update("0.3.76")
    assert done.tree is not None
    assert (done.tree.ref, done.tree.version, done.tree.commit) == ("v0.3.76", "0.3.76", done.target.commit)
    assert done.proof is not None
    assert (done.proof.loaded_nodes, done.proof.failed_nodes) == (("Baked",), ())
    assert [step[:3] for step in told.steps] == ["1/4", "2/4", "3/4", "4/4"]
    assert (there(home).version, version_of(home, "politeness")) == ("0.3.76", "2.0")
    assert read_mark(home) != mark
    turned = await updater(home, releases).rollback()
    assert (turned.current.version, turned.previous) == ("0.3.75", done.tree)
    assert there(home) == before
    assert version_of(home, "politeness") == "1.0"
    again = await updater(home, releases).plan("v0.3.76")
    assert (again.is_there, again.is_fetched) == (False, True)
    assert (await updater(home, releases).rollback()).current == done.tree
    # Whatever it is called, it is there now.
    for wanted in ("v0.3.76", "0.3.76", done.target.commit or ""):
        assert (await updater(home, releases).update(wanted)).is_there


async def test_a_version_that_is_not_there_is_told(home: Path, releases: GitRepository) -> None:
    """The nearest ones are named."""
    with pytest.raises(InstallFailed, match=r"no tag, branch or commit 'v0\.3\.7'") as caught:
        await updater(home, releases).update("v0.3.7")
    assert "Did you mean 'v0.3.7" in (caught.value.hint or "")


async def test_one_that_does_not_start_leaves_all_as_it_was(home: Path, releases: GitRepository) -> None:
    """Its last words are told; its code and its packages are gone, and what was there before is current."""
    before = there(home)
    with pytest.raises(InstallFailed, match=r"ComfyUI 0\.3\.78 ended while it started \(exit code 1\)") as caught:
        await updater(home, releases).update("v0.3.78")
    assert "no such thing" in str(caught.value.details["output"])
    assert (there(home), names(trees_folder(home))) == (before, ["0.3.75-image"])
    assert len(names(home / ".comfyworker/environments")) == 1
    with pytest.raises(InstallFailed, match="no version of ComfyUI to go back to"):
        await updater(home, releases).rollback()


async def test_a_custom_node_that_would_break_ends_it(home: Path, releases: GitRepository) -> None:
    """One that loads now and not with the new version is named; one that loads with neither does not count."""
    for name, code in {"Picky": PICKY, "Broken": "import no_such_module\n"}.items():
        (home / "custom_nodes" / name).mkdir()
        (home / "custom_nodes" / name / "__init__.py").write_text(code)
    with pytest.raises(InstallFailed, match=r"a custom node does not load that loads now: Picky$"):
        await updater(home, releases).update("v0.3.77")
    assert there(home).version == "0.3.75"
    done = await updater(home, releases).update("v0.3.77", force=True)
    assert done.proof is not None
    assert (there(home).version, done.proof.failed_nodes) == ("0.3.77", ("Broken", "Picky"))


async def test_killed_in_the_middle_the_old_one_serves(home: Path, releases: GitRepository, tmp_path: Path) -> None:
    """After kill -9 while the new version is proven, all is as it was; the next update goes on, and clears up."""
    before, reached = there(home), tmp_path / "reached"
    (home / "custom_nodes/Waits").mkdir()
    (home / "custom_nodes/Waits/__init__.py").write_text(WAITS)
    environ = {**os.environ, "REACHED": str(reached), "COMFYUI_HOME": str(home), "COMFYUI_REPOSITORY": releases.url}
    environ["COMFYUI_IMAGE_PATH"] = str(tmp_path / "image")
    command = [sys.executable, "-m", "comfyworker", "comfyui", "update", "--to", "v0.3.76"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
    await eventually(reached.exists, within_s=60)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert there(home) == before
    (home / "custom_nodes/Waits/__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (trees_folder(home) / ".incoming-left").mkdir()
    told = Told()
    await updater(home, releases, told).update("v0.3.76")
    assert (there(home).version, version_of(home, "politeness")) == ("0.3.76", "2.0")
    assert [name for name in names(trees_folder(home)) if name.startswith(".")] == []


async def test_no_room_is_told(home: Path, releases: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed and what is free are named, before anything is fetched."""
    monkeypatch.setattr("comfyworker.provision.home.updating._PACKAGES_BYTES", 10**15)
    with pytest.raises(
        InsufficientStorage, match=r"no room for ComfyUI v0\.3\.76: about .* are needed, and .* are free"
    ):
        await updater(home, releases).update("v0.3.76")
    assert names(trees_folder(home)) == ["0.3.75-image"]


async def test_a_clone_of_others_gets_a_version_beside_it(releases: GitRepository, tmp_path: Path) -> None:
    """The folder that `git clone` made stays as it is, and is what a rollback leads to."""
    home = tmp_path / "volume/ComfyUI"
    await asyncio.to_thread(make_image, home, requirements="politeness==1.0\n")
    done = await updater_of_own(home, releases).update("v0.3.76")
    assert (done.current.name, own(home).path) == (".", trees_folder(home) / (done.tree.name if done.tree else ""))
    await updater_of_own(home, releases).rollback()
    assert (own(home).path, own(home).version) == (home, "0.3.75")
    assert own(home).python == home / ".venv/bin/python"


def own(home: Path) -> Installation:
    """Return a ComfyUI with an environment in its own folder, without any image."""
    return found(home)


def updater_of_own(home: Path, releases: GitRepository) -> Updater:
    """Return what changes its version."""
    return Updater(own(home), ProvisionSettings(), Told(), repository=releases.url)


async def test_a_config_brings_the_version_that_it_asks_for(
    home: Path, releases: GitRepository, tmp_path: Path, wheels: Path
) -> None:
    """`config apply` takes the same road, once; packages of custom nodes lie on the volume, none in the image."""
    make_wheel(wheels, "courtesy", "1.0")
    pack = GitRepository(tmp_path / "repositories/ComfyUI-Greetings")
    pack.commit({"__init__.py": node_code("Greeting"), "requirements.txt": "courtesy\ntorch>=3\n"})
    pack.tag("v1.0.0")
    ground = Ground(home.parent, there(home))
    ground.comfyui_repository = releases.url
    config = ground.write(comfyui="v0.3.76", nodes=[{"url": pack.url}])
    options = ApplyOptions(checks_imports=False)
    provisioner = Provisioner(config, ground.place, ground.settings, ground.store, options=options)
    applied = await provisioner.apply()
    done = ItemStatus.DONE
    assert statuses(applied) == {"comfyui": done, "packages": done, "ComfyUI-Greetings": done}
    assert applied.has_changed_nodes
    record = read_home(home)
    assert record is not None
    assert (record.current.ref, there(home).version) == ("v0.3.76", "0.3.76")
    ground.installation = there(home)
    assert is_unchanged(config, ground.place)
    assert {"courtesy-1.0", "politeness-2.0", "torch-2.9.0"} <= packages_of(there(home).python)
    assert packages_of(tmp_path / "image/.venv/bin/python") == {"torch-2.9.0"}


def packages_of(python: Path) -> set[str]:
    """Return the packages in an environment."""
    site = site_packages(python)
    assert site is not None
    return set(list_packages(site))
