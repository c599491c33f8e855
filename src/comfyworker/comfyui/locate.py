"""Where ComfyUI is: the folder, its Python, its version. Nothing here imports ComfyUI or starts it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.home import choose_home, current_tree, is_home
from comfyworker.comfyui.install_record import FolderState, read_state
from comfyworker.comfyui.overlay import below, find_overlay
from comfyworker.errors import ComfyUINotFound
from comfyworker.settings import ComfyUISettings
from comfyworker.spawning import spawning

LAUNCHER = Path(__file__).with_name("_launch.py")
"""The script that runs ComfyUI's main.py in ComfyUI's own interpreter."""

IMAGE_PLACES = (Path("/comfyui"), Path("/ComfyUI"))
"""Where the images of other workers have their ComfyUI."""

KNOWN_PLACES = (*IMAGE_PLACES, Path("/runpod-volume/ComfyUI"), Path("workspace/ComfyUI"))
"""Where a ComfyUI is looked for when no setting names one, behind that of COMFYUI_IMAGE_PATH; relative ones lie below
the working directory."""

_SHARED_ENVIRONMENT = Path("/opt/venv")
_PROBE_LIMIT_S = 20.0
_INSTALL_HINT = (
    "Make one with `comfyworker comfyui install`, name the folder of one with COMFYUI_PATH, or one that runs already "
    "with COMFY_API_URL."
)


class Location(BaseModel):
    """Which ComfyUI the settings lead to."""

    model_config = ConfigDict(frozen=True)

    origin: Literal["COMFY_API_URL", "COMFYUI_PATH", "COMFYUI_HOME", "COMFYUI_IMAGE_PATH", "known place", "none"]
    urls: tuple[str, ...] = ()
    """ComfyUIs that run already; then there is no folder to start one from."""
    path: Path | None = None
    """The folder that ComfyUI lives in: it holds main.py, or a note of where that is (see home.py)."""


class Installation(BaseModel):
    """A ComfyUI on this disk that can be started."""

    model_config = ConfigDict(frozen=True)

    path: Path
    """The folder that holds main.py, absolute."""
    python: Path
    """The interpreter that has ComfyUI's requirements."""
    version: str | None
    """As ComfyUI itself says it, or None if its folder does not tell."""
    base_dir: Path
    """The folder that holds models, input, output, temp, user and custom_nodes."""
    image_models: Path | None = None
    """The models that the image brings, if this ComfyUI is not the image's own."""
    home_dir: Path | None = None
    """The folder that it lives in, where that is not the one of main.py: its versions lie beside each other there."""

    @property
    def home(self) -> Path:
        """The folder that it lives in."""
        return self.home_dir or self.path

    @property
    def base_python(self) -> Path:
        """The interpreter of the environment that holds torch, below what its home adds to that."""
        return below(self.python)

    def command(self, args: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs this ComfyUI with `args`."""
        return [str(self.python), str(LAUNCHER), str(self.path / "main.py"), *args]


def locate_comfyui(settings: ComfyUISettings, *, cwd: Path) -> Location:
    """Return which ComfyUI applies: COMFY_API_URL, COMFYUI_PATH, COMFYUI_HOME, else the first known place with one.

    COMFYUI_HOME without a ComfyUI in it is none, since a worker places one there before it looks. An install that was
    interrupted is no ComfyUI yet, so a known place that holds one is passed over.

    Raises:
        ComfyUINotFound: COMFYUI_PATH names a folder that cannot be used. It is never silently passed over.
    """
    if settings.api_urls:
        return Location(origin="COMFY_API_URL", urls=settings.api_urls)
    if settings.path is not None:
        path = (cwd / settings.path.expanduser()).absolute()
        _check_named_folder(path)
        return Location(origin="COMFYUI_PATH", path=path)
    home = choose_home(settings, cwd=cwd)
    if home is not None:
        return Location(origin="COMFYUI_HOME", path=home) if is_home(home) else Location(origin="none")
    if settings.image_path is not None and is_home(settings.image_path):
        return Location(origin="COMFYUI_IMAGE_PATH", path=settings.image_path)
    for place in KNOWN_PLACES:
        path = (cwd / place).absolute()
        if is_home(path):
            return Location(origin="known place", path=path)
    return Location(origin="none")


def find_comfyui(settings: ComfyUISettings, *, cwd: Path) -> Installation | None:
    """Return the ComfyUI to start, or None if there is none on this disk.

    COMFY_API_URL is not looked at: whoever has URLs needs no installation. May run short-lived processes, which
    takes a fraction of a second.

    Raises:
        ComfyUINotFound: COMFYUI_PATH or COMFYUI_PYTHON name something that cannot be used, or the folder that was
            found has no Python with torch.
    """
    home = locate_comfyui(settings.model_copy(update={"api_urls": ()}), cwd=cwd).path
    if home is None:
        return None
    python = find_python(home, settings, cwd=cwd)
    if python is None:
        raise ComfyUINotFound(
            "ComfyUI's folder was found, but no Python with torch in it or beside it",
            hint="Name the interpreter with COMFYUI_PYTHON, or make a new ComfyUI with `comfyworker comfyui install`.",
        )
    base_dir = (cwd / settings.base_dir.expanduser()).absolute() if settings.base_dir else home
    tree = current_tree(home)
    python = find_overlay(home, tree, python) or python
    return Installation(
        path=tree,
        python=python,
        version=read_version(tree),
        base_dir=base_dir,
        image_models=_image_models(settings, home),
        home_dir=None if tree == home else home,
    )


def refresh_comfyui(installation: Installation) -> Installation:
    """Return an installation as it is now: another version of ComfyUI may have become the current one in its home."""
    tree = current_tree(installation.home)
    base = installation.base_python
    python = find_overlay(installation.home, tree, base) or base
    changes = {"path": tree, "python": python, "version": read_version(tree), "home_dir": installation.home}
    return installation.model_copy(update=changes)


def require_comfyui(settings: ComfyUISettings, *, cwd: Path) -> Installation:
    """Return the ComfyUI to start.

    Raises:
        ComfyUINotFound: as `find_comfyui`, and when there is none.
    """
    found = find_comfyui(settings, cwd=cwd)
    if found is None:
        raise ComfyUINotFound(
            "there is no ComfyUI: no setting names one and no known place holds one", hint=_INSTALL_HINT
        )
    return found


def find_python(path: Path, settings: ComfyUISettings, *, cwd: Path) -> Path | None:
    """Return the interpreter for the ComfyUI in `path`, or None if none with torch is found.

    Order: COMFYUI_PYTHON, an environment in the folder, that of COMFYUI_IMAGE_PATH, one beside the folder, `/opt/venv`,
    the `python3` on PATH. The last three only when torch can be found with them: what lies beside is often the
    worker's own environment.

    Raises:
        ComfyUINotFound: COMFYUI_PYTHON names no executable file.
    """
    if settings.python is not None:
        return _named_python(settings.python, cwd)
    folders = [path] if settings.image_path is None else [path, settings.image_path]
    for environment in (folder / name for folder in folders for name in (".venv", "venv")):
        python = environment / "bin" / "python"
        if python.exists():
            return python
    return next((python for python in _shared_pythons(path) if has_torch(python)), None)


def has_torch(python: Path) -> bool:
    """Tell whether `python` can find torch, without importing it."""
    if any((python.parent.parent / "lib").glob("python*/site-packages/torch/__init__.py")):
        return True
    script = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return _said_by(str(python), "-c", script) is not None


def has_cpu_torch(python: Path) -> bool:
    """Tell whether the torch of `python` is known to be a build that can use no GPU; read as text, never imported."""
    for module in (below(python).parent.parent / "lib").glob("python*/site-packages/torch/version.py"):
        text = module.read_text(encoding="utf-8", errors="replace")
        backends = re.findall(r"^(?:cuda|hip|xpu)\b[^=\n]*= *(\S+)", text, re.MULTILINE)
        return bool(backends) and set(backends) == {"None"}
    return False


def read_version(path: Path) -> str | None:
    """Return the version of the ComfyUI in `path`, read as text from its files or from git; None if neither tells."""
    return _version_from_module(path) or _version_from_project(path) or _version_from_git(path)


def _image_models(settings: ComfyUISettings, home: Path) -> Path | None:
    image = settings.image_path
    return image / "models" if image is not None and image != home and (image / "models").is_dir() else None


def _check_named_folder(path: Path) -> None:
    if read_state(path) is FolderState.HOME and is_home(path):
        return
    if not (path / "main.py").is_file():
        raise ComfyUINotFound(
            "COMFYUI_PATH names a folder that holds no main.py" if path.is_dir() else "COMFYUI_PATH names no folder",
            hint="Set it to the folder that holds ComfyUI's main.py, or unset it to have the known places looked at.",
        )
    if read_state(path) is FolderState.UNFINISHED:
        raise ComfyUINotFound(
            "COMFYUI_PATH names a ComfyUI whose install was not finished",
            hint="Run `comfyworker comfyui install --path` with that folder again; it goes on where it stopped.",
        )


def _named_python(named: Path, cwd: Path) -> Path:
    text = str(named.expanduser())
    found = shutil.which(text) if "/" not in text else shutil.which(str(cwd / text))
    if found is None:
        raise ComfyUINotFound(
            "COMFYUI_PYTHON names no program that can be run",
            hint="Set it to the Python of ComfyUI's environment, as .venv/bin/python, or unset it.",
        )
    # Never resolved: an environment's interpreter is a link, and only its own name leads to the environment.
    return Path(found).absolute()


def _shared_pythons(path: Path) -> Iterator[Path]:
    for environment in (path.parent / ".venv", path.parent / "venv", _SHARED_ENVIRONMENT):
        python = environment / "bin" / "python"
        if python.exists():
            yield python
    found = shutil.which("python3")
    if found:
        yield Path(found)


def _version_from_module(path: Path) -> str | None:
    try:
        text = (path / "comfyui_version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"""^__version__\s*=\s*["']([^"'\n]+)["']""", text, re.MULTILINE)
    return match.group(1) if match else None


def _version_from_project(path: Path) -> str | None:
    try:
        project = tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8", errors="replace")).get("project")
    except (OSError, tomllib.TOMLDecodeError):
        return None
    version = project.get("version") if isinstance(project, dict) else None
    return version if isinstance(version, str) else None


def _version_from_git(path: Path) -> str | None:
    if not (path / ".git").exists():
        return None
    said = _said_by("git", "-C", str(path), "describe", "--tags", "--always")
    return None if said is None else said.strip().removeprefix("v") or None


def _said_by(*command: str) -> str | None:
    """Return what a program wrote to stdout; None if it is not there, failed, or took too long."""
    try:
        with spawning():
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, errors="replace"
            )
    except OSError:
        return None
    with process:
        try:
            out, _ = process.communicate(timeout=_PROBE_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    return out if process.returncode == 0 else None
