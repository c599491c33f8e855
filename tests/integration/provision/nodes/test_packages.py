"""Packages of custom nodes, put into a throwaway environment beside the real ComfyUI's packages, without a network."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks, ResolvedNode
from comfyworker.settings import ProvisionSettings
from support.eventually import eventually
from support.git_repositories import GitRepository
from support.listening import Listener
from support.node_packages import make_wheel

Make = Callable[[str], GitRepository]


class Packs:
    """Custom nodes that consist of their requirements."""

    def __init__(self, overlay: Installation, listener: Listener, make_repository: Make) -> None:
        """Work in the throwaway environment."""
        self.packs = NodePacks(overlay, ProvisionSettings(), listener)
        self.python = overlay.python
        self.custom_nodes = overlay.base_dir / "custom_nodes"
        self._make = make_repository

    async def place(self, name: str, requirements: str | bytes, **files: str) -> ResolvedNode:
        """Place a pack with that requirements.txt."""
        repository = self._make(name)
        repository.commit({"__init__.py": "", "requirements.txt": requirements, **files})
        node = await self.packs.resolve(NodeEntry(url=repository.url, version="nightly"))
        await self.packs.place(node)
        return node

    def version(self, module: str) -> str | None:
        """Return the version of one of our modules in the environment, None if it cannot be imported."""
        command = [str(self.python), "-c", f"import {module}; print({module}.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None


@pytest.fixture
def packs(overlay: Installation, listener: Listener, make_repository: Make) -> Packs:
    """Return the custom nodes of a ComfyUI with an environment that may be written to."""
    return Packs(overlay, listener, make_repository)


async def test_all_packs_are_resolved_together(packs: Packs, wheels: Path) -> None:
    """The version that suits both is taken, and the second time there is nothing to do."""
    for version in ("1.0", "1.5", "2.0"):
        make_wheel(wheels, "alpha", version)
    nodes = [await packs.place("One", "alpha>=1.2\n"), await packs.place("Two", "alpha<2\n")]
    outcome = await packs.packs.install_requirements(nodes, [])
    assert (outcome.changed, outcome.failed) == (("alpha 1.5",), {})
    assert packs.version("alpha") == "1.5"
    again = await packs.packs.install_requirements(nodes, [])
    assert (again.changed, again.failed) == ((), {})


async def test_what_is_met_needs_no_index(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything there already nobody is asked: an index that is down is no hindrance."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    node = await packs.place("Pack", "numpy\ntorch>=2\neinops>=0.1\n")
    outcome = await packs.packs.install_requirements([node], ["pillow"])
    assert (outcome.changed, outcome.failed) == ((), {})


async def test_a_conflict_names_both_packs_and_the_rest_get_theirs(packs: Packs, wheels: Path) -> None:
    """The first in config.yml wins; the third is not hurt by the quarrel of the other two."""
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "alpha", version)
    make_wheel(wheels, "gamma", "1.0")
    nodes = [
        await packs.place("First", "alpha<2\n"),
        await packs.place("Second", "alpha>=2  # newest\n"),
        await packs.place("Third", "gamma\n"),
    ]
    outcome = await packs.packs.install_requirements(nodes, [])
    assert outcome.changed == ("alpha 1.0", "gamma 1.0")
    [(folder, error)] = outcome.failed.items()
    assert folder == "Second"
    assert error.message == (
        "Second: its requirements conflict with those of First: Second wants alpha>=2, First wants alpha<2"
    )
    assert error.details["conflicts_with"] == "First"


async def test_a_conflict_through_other_packages_is_told_in_the_resolvers_words(packs: Packs, wheels: Path) -> None:
    """Neither pack names what they quarrel about."""
    make_wheel(wheels, "alpha", "1.0")
    make_wheel(wheels, "alpha", "2.0")
    make_wheel(wheels, "old-thing", "1.0", requires=["alpha<2"])
    make_wheel(wheels, "new-thing", "1.0", requires=["alpha>=2"])
    nodes = [await packs.place("Old", "old-thing\n"), await packs.place("New", "new-thing\n")]
    error = (await packs.packs.install_requirements(nodes, [])).failed["New"]
    assert error.message.startswith("New: its requirements conflict with those of Old: Because ")
    assert "alpha" in error.message


async def test_torch_stays_whatever_a_pack_asks_for(packs: Packs, wheels: Path, listener: Listener) -> None:
    """An old torch, one from an index of its own, by URL, and through another package: none gets in."""
    make_wheel(wheels, "torch", "2.0.0")
    make_wheel(wheels, "torch", "99.0")
    make_wheel(wheels, "wants-old-torch", "1.0", requires=["torch==2.0.0"])
    requirements = (
        "--extra-index-url https://download.pytorch.org/whl/cu121\n"
        "torch==2.0.0\n"
        "https://download.pytorch.org/whl/cu121/torchvision-0.16.0%2Bcu121-cp311-cp311-linux_x86_64.whl\n"
        "torchaudio\n"
    )
    nodes = [await packs.place("Direct", requirements), await packs.place("Deep", "wants-old-torch\n")]
    outcome = await packs.packs.install_requirements(nodes, ["torch>=99"])
    assert outcome.changed == ()
    assert list(outcome.failed) == ["Deep"]
    assert outcome.failed["Deep"].message.startswith(
        "Deep: its requirements cannot be met beside ComfyUI's own packages: Because "
    )
    assert "torch==2.0.0" in outcome.failed["Deep"].message
    [direct, own] = listener.notes
    assert own == "`pip` of config.yml: torch>=99 is left out, since ComfyUI's torch stays as it is."
    assert direct.startswith("Direct: asks for torch==2.0.0, https://download.pytorch.org/whl/cu121/torchvision")


async def test_comfyuis_own_requirements_hold(packs: Packs, wheels: Path) -> None:
    """A pack cannot pull a package below what ComfyUI needs."""
    make_wheel(wheels, "aiohttp", "3.0.0")
    node = await packs.place("Pack", "aiohttp<3.5\n")
    outcome = await packs.packs.install_requirements([node], [])
    assert outcome.changed == ()
    assert outcome.failed["Pack"].message.startswith(
        "Pack: its requirements cannot be met beside ComfyUI's own packages"
    )


async def test_a_package_that_is_not_there_is_named(packs: Packs, wheels: Path) -> None:
    """And the others get theirs."""
    make_wheel(wheels, "alpha", "1.0")
    nodes = [await packs.place("Bad", "no-such-package-anywhere\n"), await packs.place("Good", "alpha\n")]
    outcome = await packs.packs.install_requirements(nodes, [])
    assert outcome.changed == ("alpha 1.0",)
    assert list(outcome.failed) == ["Bad"]
    assert "no-such-package-anywhere" in outcome.failed["Bad"].message


async def test_a_line_nobody_understands_fails_its_pack_only(packs: Packs, wheels: Path) -> None:
    """With file, line and what stands there."""
    make_wheel(wheels, "alpha", "1.0")
    nodes = [await packs.place("Bad", "numpy\nopencv-python=4.8\n"), await packs.place("Good", "alpha\n")]
    outcome = await packs.packs.install_requirements(nodes, [])
    assert outcome.changed == ("alpha 1.0",)
    assert outcome.failed["Bad"].message == (
        "Bad: requirements.txt line 2: 'opencv-python=4.8' is no requirement that can be understood"
    )


async def test_pip_of_the_config_is_part_of_the_resolution(packs: Packs, wheels: Path) -> None:
    """It comes before all packs, and where it cannot be had nothing is done."""
    make_wheel(wheels, "alpha", "1.0")
    make_wheel(wheels, "alpha", "2.0")
    node = await packs.place("Pack", "alpha>=2\n")
    outcome = await packs.packs.install_requirements([node], ["alpha<2"])
    assert outcome.changed == ("alpha 1.0",)
    assert list(outcome.failed) == ["Pack"]
    with pytest.raises(NodeInstallFailed, match=r"what `pip` of config\.yml asks for cannot be installed"):
        await packs.packs.install_requirements([node], ["no-such-package-anywhere"])


async def test_a_known_fix_is_applied_and_told(packs: Packs, wheels: Path, listener: Listener) -> None:
    """The pack of seed 001 gets what it does not ask for, and the reason is said."""
    for name, version in (("diffusers", "0.29.0"), ("accelerate", "0.31.0"), ("accelerate", "1.0"), ("peft", "0.7.0")):
        make_wheel(wheels, name, version)
    node = await packs.place("ComfyUI-BrushNet", "accelerate>=0.20\n")
    fixed = node.model_copy(update={"url": "https://github.com/nullquant/ComfyUI-BrushNet.git"})
    outcome = await packs.packs.install_requirements([fixed], [])
    assert outcome.changed == ("accelerate 0.31.0", "diffusers 0.29.0", "peft 0.7.0")
    [note] = listener.notes
    assert note.startswith("ComfyUI-BrushNet: diffusers>=0.29.0, accelerate>=0.29.0,<0.32.0, peft>=0.7.0 added, since ")


async def test_a_package_that_does_not_build_fails_its_pack_only(packs: Packs, wheels: Path) -> None:
    """It can be resolved, and fails when it is built; the others get theirs all the same."""
    make_wheel(wheels, "alpha", "1.0")
    setup = "import sys; sys.exit('this does not build')"
    bad = await packs.place("Bad", "./vendored\n", **{"vendored/setup.py": setup})
    nodes = [bad, await packs.place("Good", "alpha\n")]
    outcome = await packs.packs.install_requirements(nodes, [])
    assert outcome.changed == ("alpha 1.0",)
    assert list(outcome.failed) == ["Bad"]


async def test_an_install_that_was_killed_is_made_whole(packs: Packs, wheels: Path) -> None:
    """A package of which half the files are there counts as installed; the journal knows better."""
    make_wheel(wheels, "alpha", "1.0")
    node = await packs.place("Pack", "alpha\n")
    await packs.packs.install_requirements([node], [])
    environment = packs.python.parent.parent
    [module] = environment.glob("lib/python*/site-packages/alpha.py")
    module.unlink()
    (environment / "comfyworker-installing.json").write_text(json.dumps(["alpha"]))
    assert packs.version("alpha") is None
    await packs.packs.install_requirements([node], [])
    assert packs.version("alpha") == "1.0"
    assert not (environment / "comfyworker-installing.json").exists()


@pytest.mark.usefixtures("wheels")
async def test_uv_sees_no_secret_of_the_worker(packs: Packs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package that is built runs its own code."""
    monkeypatch.setenv("GITHUB_TOKEN", "the-secret")
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "the-secret")
    setup = f"import os, sys; open({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ))); sys.exit(1)"
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {"vendored/pyproject.toml": backend, "vendored/backend.py": setup}
    node = await packs.place("Pack", "./vendored\n", **files)
    await packs.packs.install_requirements([node], [])
    assert "the-secret" not in (tmp_path / "seen").read_text()


async def test_the_registrys_list_counts_where_there_is_no_file(packs: Packs, wheels: Path) -> None:
    """A node of the registry may say what it needs in its pyproject.toml only."""
    make_wheel(wheels, "alpha", "1.0")
    node = await packs.place("Pack", "")
    (packs.custom_nodes / "Pack/requirements.txt").unlink()
    listed = node.model_copy(update={"requirements": ("alpha>=1", "torch")})
    outcome = await packs.packs.install_requirements([listed], [])
    assert (outcome.changed, outcome.failed) == (("alpha 1.0",), {})


async def test_an_index_that_is_down_may_be_tried_again(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart from a conflict, and does not hurt the pack that needs nothing new."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    nodes = [await packs.place("Met", "numpy\n"), await packs.place("Unmet", "some-package\n")]
    outcome = await packs.packs.install_requirements(nodes, [])
    [(folder, error)] = outcome.failed.items()
    assert (folder, error.message, error.retryable) == ("Unmet", "Unmet: its packages could not be fetched", True)


async def test_an_install_killed_in_the_middle_is_made_whole_by_the_next(
    packs: Packs, overlay: Installation, wheels: Path
) -> None:
    """A real SIGKILL, while the first of many files are being put in."""
    count = 4000
    make_wheel(wheels, "bulky", "1.0", files={f"bulky_parts/part{number}.py": "x = 1\n" for number in range(count)})
    node = await packs.place("Pack", "bulky\n")
    script = (
        "import asyncio, sys\n"
        "from comfyworker.comfyui.locate import Installation\n"
        "from comfyworker.provision.nodes import NodePacks, ResolvedNode\n"
        "from comfyworker.provision.reporting import SilentReporter\n"
        "from comfyworker.settings import ProvisionSettings\n"
        "packs = NodePacks(Installation.model_validate_json(sys.argv[1]), ProvisionSettings(), SilentReporter())\n"
        "node = ResolvedNode.model_validate_json(sys.argv[2])\n"
        "asyncio.run(packs.install_requirements([node], []))\n"
    )
    arguments = (overlay.model_dump_json(), node.model_dump_json())
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments)
    parts = site_packages(overlay) / "bulky_parts"
    await eventually(parts.is_dir, within_s=120, interval_s=0.001)
    process.kill()
    await process.wait()
    outcome = await packs.packs.install_requirements([node], [])
    assert outcome.failed == {}
    assert len(list_files(parts)) == count
    assert packs.version("bulky") == "1.0"


def site_packages(installation: Installation) -> Path:
    """Return where an environment keeps its packages."""
    [found] = (installation.python.parent.parent / "lib").glob("python*/site-packages")
    return found


def list_files(folder: Path) -> list[Path]:
    """Return the modules in a folder."""
    return list(folder.glob("*.py"))
