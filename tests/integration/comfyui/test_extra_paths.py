"""ComfyUI reads the file with more model folders as we mean it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from comfyworker.comfyui.extra_paths import list_extra_paths, render_extra_paths, write_extra_paths
from comfyworker.comfyui.model_kinds import CORE_KINDS, MODEL_ENDINGS, NO_KINDS, OTHER_KINDS
from comfyworker.comfyui.model_places import ModelPlace, ModelTree, Origin
from support.real_comfyui import Install, RealComfyUI

# ComfyUI's own reader, on ComfyUI's own list of folders.
READ = """
import json, sys
sys.argv, path = sys.argv[:1], sys.argv[1]
import folder_paths
from utils.extra_config import load_extra_path_config
if path:
    load_extra_path_config(path)
folders = {kind: paths for kind, (paths, _endings) in folder_paths.folder_names_and_paths.items()}
print(json.dumps({"folders": folders, "endings": sorted(folder_paths.supported_pt_extensions)}))
"""
ODD_NAMES = (
    "plain", "with space", "with: colon", "-dash", "#hash", '"double"', "'single'", "back\\slash", "tab\there", "$HOME",
    "~", "%s", "{a: b}", "[x]", "&anchor", "*star", "!tag", "ümläut", "日本", "🐈", "line\u2028break", "bell\x07",
    "delete\x7f", "next\x85line", "trailing ", "return\rhere", "|", ">", "yes", "null", "1.5",
)  # fmt: skip


def ask(install: Install, path: Path | None = None) -> dict[str, Any]:
    """Return ComfyUI's folders for models after it has read `path`, and the endings that it lists."""
    command = [str(install.python), "-c", READ, str(path or "")]
    done = subprocess.run(command, cwd=install.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_every_name_arrives_as_it_is(comfyui_install: Install, tmp_path: Path) -> None:
    """Whatever a folder is called, also in YAML's own signs, ComfyUI looks into that folder, and into no other."""
    wanted = [Path("/volume") / name for name in ODD_NAMES]
    path = write_extra_paths(render_extra_paths({"loras": wanted, "our: own": [Path("/x")]}), tmp_path / "s p:ace")
    folders = ask(comfyui_install, path)["folders"]
    before = ask(comfyui_install)["folders"]
    assert folders["loras"] == before["loras"] + [str(one) for one in wanted]
    assert folders["our: own"] == ["/x"]


def test_some_folders_are_searched_first(comfyui_install: Install, tmp_path: Path) -> None:
    """Before ComfyUI's own and before those of volumes, under either name of a kind; no other kind is touched."""
    first = {"loras": Path("/copies/loras"), "text_encoders": Path("/copies/text_encoders"), "packs": Path("/copies/p")}
    text = render_extra_paths({"loras": [Path("/volume")], "packs": [Path("/volume/p")]}, first=first)
    folders, before = (
        ask(comfyui_install, write_extra_paths(text, tmp_path))["folders"],
        ask(comfyui_install)["folders"],
    )
    assert folders["loras"] == ["/copies/loras", *before["loras"], "/volume"]
    assert folders["text_encoders"] == ["/copies/text_encoders", *before["text_encoders"]]
    assert folders["packs"] == ["/copies/p", "/volume/p"]
    assert {kind for kind in before if folders[kind] != before[kind]} == {"loras", "text_encoders"}


def test_every_kind_of_comfyui_is_known(comfyui_install: Install, tmp_path: Path) -> None:
    """The kinds, the folders for each and the endings are those of ComfyUI; a newer one that has more is noticed."""
    asked = ask(comfyui_install)
    real = {kind: {Path(path).name for path in paths} for kind, paths in asked["folders"].items()}
    del real["custom_nodes"]
    assert {kind: set(CORE_KINDS[kind]) for kind in real if kind in CORE_KINDS} == {
        kind: folders for kind, folders in real.items() if kind not in OTHER_KINDS
    }
    assert set(asked["endings"]) == MODEL_ENDINGS
    tree = ModelTree(path=Path("/volume/models"), folders=(), takes_all=True)
    place = ModelPlace(root=Path("/volume"), origin=Origin.NETWORK_VOLUME, trees=(tree,))
    text = render_extra_paths(list_extra_paths([place], own_models=tmp_path))
    after = ask(comfyui_install, write_extra_paths(text, tmp_path))["folders"]
    assert {kind for kind, paths in after.items() if any(path.startswith("/volume/") for path in paths)} == set(real)
    assert set(after) == set(asked["folders"])


async def test_a_running_comfyui_lists_the_same_kinds(comfyui: RealComfyUI) -> None:
    """`GET /models` tells no kind that we do not know."""
    async with aiohttp.ClientSession() as session, session.get(f"{comfyui.url}/models") as answer:
        kinds = set(await answer.json())
    assert kinds - NO_KINDS <= {*CORE_KINDS, *OTHER_KINDS}
