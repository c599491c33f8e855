"""Small ComfyUIs: an image with an environment of its own, and a repository with releases; each starts in no time.

What they are is what placing and updating look at: a tree with a main.py that answers, requirements, and an environment
whose packages are wheels of the test's own.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from comfyworker.comfyui.locate import Installation, require_comfyui
from comfyworker.settings import ComfyUISettings
from support.git_repositories import GitRepository
from support.stand_in import PROGRAM

LOADING = """
import asyncio, importlib.util, logging, os, sys

NODE_CLASS_MAPPINGS = {}


async def load_custom_node(path, ignore=set(), module_parent="custom_nodes"):
    name = os.path.basename(path)
    try:
        spec = importlib.util.spec_from_file_location(name, os.path.join(path, "__init__.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception:
        logging.warning("Cannot import %s", path)
        return False
    return True


async def load_all(folder):
    for name in sorted(os.listdir(folder)):
        if os.path.isdir(os.path.join(folder, name)) and not name.startswith((".", "__")):
            await load_custom_node(os.path.join(folder, name))
"""
MAIN = """
import asyncio, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import nodes

base = sys.argv[sys.argv.index("--base-directory") + 1] if "--base-directory" in sys.argv else os.path.dirname(__file__)
asyncio.run(nodes.load_all(os.path.join(base, "custom_nodes")))
"""


def tree_files(version: str, *, requirements: str = "", main: str | None = None) -> dict[str, str]:
    """Return the files of a small ComfyUI."""
    return {
        "main.py": MAIN + PROGRAM if main is None else main,
        "nodes.py": LOADING,
        "comfyui_version.py": f'__version__ = "{version}"\n',
        "requirements.txt": requirements,
        "comfy/__init__.py": "",
        "custom_nodes/example_node.py.example": "# an example\n",
        "input/example.png": "a picture",
        "models/configs/v1-inference.yaml": "model: {}\n",
    }


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def make_image(folder: Path, *, version: str = "0.3.75", torch: str = "2.9.0", requirements: str = "") -> Path:
    """Make the ComfyUI of an image, which brings a custom node, a model and a workflow; return its folder."""
    write_files(folder, tree_files(version, requirements=requirements))
    write_files(
        folder,
        {
            "custom_nodes/Baked/__init__.py": "NODE_CLASS_MAPPINGS = {}\n",
            "models/checkpoints/baked.safetensors": "weights",
            "user/default/workflows/own.json": "{}",
            "output/old.png": "an old picture",
        },
    )
    make_environment(folder / ".venv", torch=torch)
    return folder


def make_environment(folder: Path, *, torch: str) -> None:
    """Make an environment with something in it that counts as torch."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    [site] = folder.glob("lib/python*/site-packages")
    info = site / f"torch-{torch}.dist-info"
    write_files(site, {"torch/__init__.py": f"__version__ = {torch!r}\n"})
    write_files(info, {"METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n", "INSTALLER": "tests\n"})
    write_files(info, {"RECORD": "torch/__init__.py,,\n", "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n"})


def make_releases(folder: Path, *releases: tuple[str, Mapping[str, str]]) -> GitRepository:
    """Make ComfyUI's repository: a tag with files for each release."""
    made = GitRepository(folder)
    for tag, files in releases:
        made.commit(files)
        made.tag(tag)
    return made


def settings_for(home: Path, image: Path | None = None) -> ComfyUISettings:
    """Return the settings of a worker whose ComfyUI lives in `home`."""
    return ComfyUISettings(home=str(home), image_path=image)


def found(home: Path, image: Path | None = None) -> Installation:
    """Return the ComfyUI that a worker would start."""
    return require_comfyui(settings_for(home, image), cwd=Path.cwd())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of each file in a folder, what is ours left out."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if ".comfyworker" not in path.relative_to(folder).parts and not path.is_dir()
    }


def offline(wheels: Path) -> dict[str, str]:
    """Return the variables with which uv knows of a folder of wheels and of nothing else."""
    wheels.mkdir(exist_ok=True)
    return {
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(wheels),
        "UV_CACHE_DIR": str(wheels.with_name("uv-cache")),
        "PATH": os.environ["PATH"],
    }
