"""Whether custom nodes load, asked of the real ComfyUI."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import ImportOutcome, NodePacks, ResolvedNode
from comfyworker.settings import ProvisionSettings
from support.git_repositories import GitRepository, node_code
from support.listening import Listener
from support.provisioning import base_folders
from support.real_comfyui import NODE_PACK, Install


@dataclass(frozen=True)
class OneStart:
    """What one start of ComfyUI, which takes ten seconds, told of many custom nodes."""

    base_dir: Path
    folders: tuple[str, ...]
    """The custom nodes that it was asked about, in this order."""
    outcomes: Mapping[str, ImportOutcome]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_start(comfyui_install: Install, tmp_path_factory: pytest.TempPathFactory) -> OneStart:
    """Ask ComfyUI about packs that load and packs that do not, about one from a repository and one that is not there.

    A picture of a job lies in ComfyUI's temp folder meanwhile.
    """
    folder = tmp_path_factory.mktemp("importing")
    base_dir = base_folders(folder / "base")
    installation = Installation(
        path=comfyui_install.path, python=comfyui_install.python, version="0.3.75", base_dir=base_dir
    )
    packs = NodePacks(installation, ProvisionSettings(), Listener())
    repository = GitRepository(folder / "repositories" / "ComfyUI-Tests")
    repository.commit(our_pack())
    repository.tag("v1.0.0")
    from_repository = await packs.resolve(NodeEntry(url=repository.url))
    await packs.place(from_repository)
    (base_dir / "temp").mkdir()
    (base_dir / "temp/preview.png").write_bytes(b"of a job that runs")
    gone = ResolvedNode(entry=NodeEntry(url="https://example.org/Gone"), folder="Gone")
    nodes = [*put_all(base_dir / "custom_nodes"), from_repository, gone]
    return OneStart(base_dir, tuple(node.folder for node in nodes), await packs.check_imports(nodes))


def put(custom_nodes: Path, name: str, **files: str) -> ResolvedNode:
    """Write a pack into custom_nodes."""
    (custom_nodes / name).mkdir()
    for file, content in files.items():
        (custom_nodes / name / f"{file}.py").write_text(content, encoding="utf-8")
    return ResolvedNode(entry=NodeEntry(url=f"https://example.org/{name}"), folder=name)


def message(outcome: ImportOutcome) -> str:
    """Return what is wrong."""
    assert outcome.error is not None
    return outcome.error.message


def hint(outcome: ImportOutcome) -> str | None:
    """Return what to do."""
    assert outcome.error is not None
    return outcome.error.hint


def put_all(folder: Path) -> list[ResolvedNode]:
    """Write packs of which two load, each of the others fails for a reason of its own."""
    old_api = "from transformers import NoSuchThing\n"
    version = "from importlib.metadata import version\nversion('no-such-package')\n"
    return [
        put(folder, "Good", __init__=node_code("TestGood")),
        put(folder, "Lacks", __init__="import logging\nlogging.info('x')\nimport cv2_not_there.sub\n"),
        put(folder, "Renamed", __init__="from .inner import x\n", inner="# one\nimport skimage\nx = 1\n"),
        put(folder, "Conflicts", __init__=old_api),
        put(folder, "Unnamed", __init__=version),
        put(folder, "Raises", __init__="def f():\n    raise ValueError('the /secret/dir/model.bin is bad')\nf()\n"),
        put(folder, "Newer", __init__="import comfy.no_such_module\n"),
        put(folder, "Broken", __init__="from .not_there import x\n"),
        put(folder, "Empty", __init__="x = 1\n"),
        put(folder, "Syntax", __init__="def f(:\n"),
        put(folder, "Recovers", __init__="import logging\ntry:\n    import nope\nexcept ImportError:\n"
            "    logging.warning('no nope')\n" + node_code("TestRecovers")),
    ]  # fmt: skip


def our_pack() -> dict[str, str]:
    """Return the files of our own pack for the tests."""
    return {path.name: path.read_text(encoding="utf-8") for path in NODE_PACK.glob("*.py")}


def test_one_start_names_every_pack_that_fails_and_why(one_start: OneStart) -> None:
    """With the package that is missing or wrong and the line for config.yml, and its own place where it failed."""
    outcomes = one_start.outcomes
    assert tuple(outcomes) == one_start.folders
    good = {"Good", "Recovers", "ComfyUI-Tests"}
    assert {name for name, outcome in outcomes.items() if outcome.error is None} == good
    assert outcomes["Good"].node_count == 1
    assert message(outcomes["Lacks"]) == (
        "Lacks: it does not load: ModuleNotFoundError: No module named 'cv2_not_there' (__init__.py line 3)"
    )
    assert hint(outcomes["Lacks"]) == (
        "It needs a package that its requirements do not name. Add to config.yml: `pip: ['cv2-not-there']`."
    )
    assert message(outcomes["Renamed"]).endswith("No module named 'skimage' (inner.py line 2)")
    assert "`pip: ['scikit-image']`" in (hint(outcomes["Renamed"]) or "")
    assert "another version of the package transformers" in (hint(outcomes["Conflicts"]) or "")
    assert "`pip: ['no-such-package']`" in (hint(outcomes["Unnamed"]) or "")
    assert message(outcomes["Raises"]) == (
        "Raises: it does not load: ValueError: the …/model.bin is bad (__init__.py line 2)"
    )
    assert "another version of ComfyUI" in (hint(outcomes["Newer"]) or "")
    assert "own files are not complete" in (hint(outcomes["Broken"]) or "")
    assert "brings no nodes" in message(outcomes["Empty"])
    assert "SyntaxError" in message(outcomes["Syntax"])


async def test_a_pack_that_ends_comfyui_is_named_and_the_others_still_tried(packs: NodePacks, base_dir: Path) -> None:
    """At its import, and in its prestartup script, by whatever code it exits with."""
    folder = base_dir / "custom_nodes"
    nodes = [
        put(folder, "Dies", __init__="import os\nos._exit(7)\n"),
        put(folder, "Leaves", __init__=node_code("TestLeaves"), prestartup_script="import sys\nsys.exit(0)\n"),
        put(folder, "Good", __init__=node_code("TestGood")),
        put(folder, "Bad", __init__="import nope\n"),
    ]
    outcomes = await packs.check_imports(nodes)
    assert outcomes["Good"].error is None
    assert [name for name, outcome in outcomes.items() if outcome.ends_comfyui] == ["Dies", "Leaves"]
    assert message(outcomes["Dies"]).startswith("Dies: ComfyUI ended, or did not go on, while loading it")
    assert message(outcomes["Leaves"]).startswith("Leaves: ComfyUI ended, or did not go on, while loading it")
    assert "No module named 'nope'" in message(outcomes["Bad"])


def test_a_pack_from_a_repository_loads_in_comfyui(one_start: OneStart) -> None:
    """Our own pack for the tests, fetched by git; the check leaves ComfyUI's folders as they were."""
    outcome = one_start.outcomes["ComfyUI-Tests"]
    classes = sum(text.count("\nclass Test") for text in our_pack().values())
    assert (outcome.node_count, outcome.error) == (classes, None)
    assert (one_start.base_dir / "temp/preview.png").exists()
    assert list((one_start.base_dir / "user").iterdir()) == []


def test_a_folder_that_comfyui_never_tried_is_told(one_start: OneStart) -> None:
    """A success is what was seen, not what did not fail."""
    outcome = one_start.outcomes["Gone"]
    assert isinstance(outcome.error, NodeInstallFailed)
    assert message(outcome) == "Gone: ComfyUI did not try to load it"
