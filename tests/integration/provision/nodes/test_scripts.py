"""install.py of custom nodes, run in ComfyUI's own interpreter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks, ResolvedNode
from comfyworker.settings import ProvisionSettings
from support.git_repositories import GitRepository
from support.listening import Listener

Make = Callable[[str], GitRepository]
COUNT = "open('runs', 'a').write('x')\n"


async def place(packs: NodePacks, repository: GitRepository) -> ResolvedNode:
    """Place the tip of a repository."""
    node = await packs.resolve(NodeEntry(url=repository.url, version="nightly"))
    await packs.place(node)
    return node


def runs(base_dir: Path) -> int:
    """Return how often the script of `Pack` was run."""
    path = base_dir / "custom_nodes/Pack/runs"
    return len(path.read_text()) if path.exists() else 0


async def test_it_is_run_once_per_version(packs: NodePacks, base_dir: Path, make_repository: Make) -> None:
    """In its own folder, where it may write; again for the next version."""
    repository = make_repository("Pack")
    repository.commit({"install.py": "import torch\n" + COUNT})
    node = await place(packs, repository)
    for _ in range(2):
        assert await packs.run_install_scripts([node]) == {}
    assert runs(base_dir) == 1
    repository.commit({"install.py": COUNT})
    assert await packs.run_install_scripts([await place(packs, repository)]) == {}
    assert runs(base_dir) == 2


async def test_one_that_fails_is_told_and_tried_again(packs: NodePacks, base_dir: Path, make_repository: Make) -> None:
    """With the last line that it said; what it did counts for nothing."""
    repository = make_repository("Pack")
    repository.commit({"install.py": COUNT + "raise RuntimeError('no compiler')\n"})
    node = await place(packs, repository)
    for number in (1, 2):
        [error] = (await packs.run_install_scripts([node])).values()
        assert error.message == "Pack: its install.py ended with code 1: RuntimeError: no compiler"
        assert runs(base_dir) == number


async def test_one_that_waits_for_ever_is_ended(
    installation: Installation, listener: Listener, make_repository: Make
) -> None:
    """With all that it started."""
    packs = NodePacks(installation, ProvisionSettings(node_install_timeout_s=1.0), listener)
    repository = make_repository("Pack")
    repository.commit({"install.py": "import time\ntime.sleep(3600)\n"})
    [error] = (await packs.run_install_scripts([await place(packs, repository)])).values()
    assert error.message == "Pack: its install.py took longer than 1 s: it said nothing"


async def test_it_sees_no_secret_of_the_worker(
    packs: NodePacks, base_dir: Path, make_repository: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the code of others."""
    monkeypatch.setenv("GITHUB_TOKEN", "the-secret")
    monkeypatch.setenv("CIVITAI_TOKEN", "the-secret")
    repository = make_repository("Pack")
    repository.commit({"install.py": "import os\nopen('seen', 'w').write(repr(dict(os.environ)))\n"})
    assert await packs.run_install_scripts([await place(packs, repository)]) == {}
    seen = (base_dir / "custom_nodes/Pack/seen").read_text()
    assert "COMFYUI_PATH" in seen
    assert "the-secret" not in seen
