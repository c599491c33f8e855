"""The custom nodes of a config, from real repositories into a real ComfyUI."""

from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.renewal import read_mark
from comfyworker.errors import ComfyUINotFound, ProvisioningFailed
from comfyworker.provision.apply import Applied, Provisioner, raise_failures
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.reporting import ItemStatus
from comfyworker.provision.shelves import list_nodes
from comfyworker.provision.state import is_unchanged
from support.git_repositories import GitRepository, node_code
from support.node_packages import make_overlay, make_wheel
from support.provisioning import Ground, base_folders, statuses
from support.real_comfyui import Install


@pytest.fixture
def ground(comfyui_install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """Return a ComfyUI with an environment and folders of the test's own, and wheels that are all that uv knows."""
    root = base_folders(tmp_path / "base")
    (tmp_path / "wheels").mkdir()
    for name, value in {
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(tmp_path / "wheels"),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
    }.items():
        monkeypatch.setenv(name, value)
    python = make_overlay(comfyui_install, tmp_path / "environment")
    installation = Installation(path=comfyui_install.path, python=python, version="0.3.75", base_dir=root)
    return Ground(root, installation)


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """Return a custom node with two releases."""
    made = GitRepository(tmp_path / "repositories" / "ComfyUI-Greetings")
    made.commit({"__init__.py": node_code("Greeting", "one")})
    made.tag("v1.0.0")
    made.commit({"__init__.py": node_code("Greeting", "two")})
    made.tag("v1.1.0")
    return made


async def apply_quickly(ground: Ground, *, force: bool = False, locked: bool = False) -> Applied:
    """Apply the config without ComfyUI's start at the end."""
    options = ApplyOptions(force=force, locked=locked, checks_imports=False)
    provisioner = Provisioner(
        ground.found, ground.place, ground.settings, ground.store, reporter=ground.listener, options=options
    )
    return await provisioner.apply()


async def test_custom_nodes_are_installed_and_seen_to_load(
    ground: Ground, repository: GitRepository, tmp_path: Path
) -> None:
    """A pack comes with its packages and loads; one that does not is named with the reason, and stops nothing."""
    make_wheel(tmp_path / "wheels", "politeness", "1.0")
    repository.commit({"requirements.txt": "politeness\n"})
    repository.tag("v1.2.0")
    broken = GitRepository(tmp_path / "repositories" / "Broken")
    broken.commit({"__init__.py": "import no_such_package\n"})
    found = ground.write(nodes=[{"url": repository.url}, {"url": broken.url, "version": "nightly", "optional": True}])
    applied = await ground.apply()
    assert statuses(applied) == {
        "packages": ItemStatus.DONE, "ComfyUI-Greetings": ItemStatus.DONE, "Broken": ItemStatus.FAILED,
    }  # fmt: skip
    raise_failures(applied.results)
    [failed] = applied.failed
    assert failed.error is not None
    assert "no_such_package" in failed.error.message
    assert ground.installation is not None
    listed = {node.folder: (node.is_good, node.asked_as) for node in list_nodes(ground.installation)}
    assert listed == {"ComfyUI-Greetings": (True, "latest"), "Broken": (False, "nightly")}
    assert not is_unchanged(found, ground.place)
    broken.commit({"__init__.py": node_code("Mended")})
    applied = await ground.apply(force=True)
    assert statuses(applied)["Broken"] is ItemStatus.DONE
    assert is_unchanged(found, ground.place)


async def test_an_unchanged_config_asks_no_repository(ground: Ground, repository: GitRepository) -> None:
    """The second time nothing is asked, though the repository is gone; no worker is told to start ComfyUI anew."""
    ground.write(nodes=[{"url": repository.url}])
    applied = await apply_quickly(ground)
    assert applied.has_changed_nodes
    mark = read_mark(ground.root)
    assert mark
    repository.path.rename(repository.path.with_name("gone"))
    applied = await apply_quickly(ground)
    assert (applied.is_unchanged, applied.has_changed_nodes, read_mark(ground.root)) == (True, False, mark)


async def test_latest_goes_on_with_force_and_stays_when_locked(ground: Ground, repository: GitRepository) -> None:
    """A new release is taken with force; --locked brings back the one that the lock file has."""
    ground.write(nodes=[{"url": repository.url}])
    await apply_quickly(ground)
    lock = (ground.root / "config.lock.yml").read_text()
    repository.commit({"__init__.py": node_code("Greeting", "three")})
    repository.tag("v2.0.0")
    code = ground.root / "custom_nodes/ComfyUI-Greetings/__init__.py"
    await apply_quickly(ground)
    assert '"two"' in code.read_text()
    await apply_quickly(ground, force=True)
    assert '"three"' in code.read_text()
    (ground.root / "config.lock.yml").write_text(lock)
    await apply_quickly(ground, locked=True)
    assert '"two"' in code.read_text()


async def test_a_node_that_is_gone_from_the_config_is_disabled(ground: Ground, repository: GitRepository) -> None:
    """Its folder is renamed; one that somebody else put there stays; coming back, it is enabled again."""
    (ground.root / "custom_nodes/Own").mkdir()
    ground.write(nodes=[{"url": repository.url}])
    await apply_quickly(ground)
    ground.write(nodes=[])
    applied = await apply_quickly(ground)
    assert applied.has_changed_nodes
    folders = sorted(path.name for path in (ground.root / "custom_nodes").iterdir() if not path.name.startswith("."))
    assert folders == ["ComfyUI-Greetings.disabled", "Own"]
    assert (await apply_quickly(ground)).is_unchanged
    ground.write(nodes=[{"url": repository.url}])
    await apply_quickly(ground)
    assert (ground.root / "custom_nodes/ComfyUI-Greetings/__init__.py").is_file()


async def test_a_pack_that_cannot_be_had_is_named_and_the_rest_is_installed(
    ground: Ground, repository: GitRepository
) -> None:
    """All that is required and failed is raised in one error; what was good is noted."""
    ground.write(nodes=[{"url": "file:///no/such/repository"}, {"url": repository.url, "version": "v1.0.0"}])
    applied = await apply_quickly(ground)
    assert statuses(applied)["ComfyUI-Greetings"] is ItemStatus.DONE
    with pytest.raises(ProvisioningFailed, match="repository"):
        raise_failures(applied.results)
    assert not is_unchanged(ground.found, ground.place)


async def test_a_comfyui_that_cannot_be_had_is_told_and_the_rest_is_installed(
    ground: Ground, repository: GitRepository
) -> None:
    """The nearest versions that there are, are named; custom nodes are installed for the ComfyUI that is there."""
    ground.comfyui_repository = repository.url
    ground.write(comfyui="v1.9.0", nodes=[{"url": repository.url}])
    applied = await apply_quickly(ground)
    assert statuses(applied)["ComfyUI-Greetings"] is ItemStatus.DONE
    with pytest.raises(ProvisioningFailed, match=r"no tag, branch or commit 'v1\.9\.0'") as caught:
        raise_failures(applied.results)
    assert "v1.1.0" in (caught.value.hint or "")


async def test_custom_nodes_need_a_comfyui(tmp_path: Path, repository: GitRepository) -> None:
    """Without a ComfyUI on this disk the error says so."""
    ground = Ground(tmp_path / "volume")
    ground.write(nodes=[{"url": repository.url}])
    with pytest.raises(ComfyUINotFound, match="custom nodes"):
        await ground.apply()
