"""The folder that a ComfyUI lives in: what persists in it, and which of its trees of code is the current one.

A home is laid out as a ComfyUI is: `models`, `custom_nodes`, `user`, `input`, `output`. The code is either in the
folder itself, as `git clone` leaves it, or in `.comfyworker/trees/<name>`, and a note says which. So another version of
ComfyUI takes the place of the one before by one rename of one small file, and gives it back in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.comfyui.install_record import HOME_NOTE, UNFINISHED_NAME
from comfyworker.comfyui.model_places import KNOWN_VOLUMES, Origin
from comfyworker.replacing import replace_file
from comfyworker.settings import ComfyUISettings

OWN_FOLDER = ".comfyworker"
"""The folder for what is ours, in each home."""
ITSELF = "."
"""The name of the tree that is the home itself."""
FOLDER_NAME = "ComfyUI"
"""What a home is called on a volume."""
_RUNS_FROM_IMAGE = "image"
_ON_VOLUME = "volume"


class TreeRecord(BaseModel):
    """A tree of ComfyUI's code in a home."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    """Its folder below `.comfyworker/trees`, or `.` for the home itself."""
    version: str | None = None
    """As ComfyUI itself says it."""
    ref: str | None = None
    """Git tag or branch, as it was asked for."""
    commit: str | None = None
    source: str | None = None
    """`git`, `package` or `image`; None for one that was there before."""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.ref or self.version or (self.commit or "")[:12] or "of unknown version"


class HomeRecord(BaseModel):
    """Which tree is the current one, and which one was before it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    current: TreeRecord
    previous: TreeRecord | None = None


def choose_home(
    settings: ComfyUISettings, *, cwd: Path, volumes: Sequence[tuple[Origin, Path]] | None = None
) -> Path | None:
    """Return the folder that COMFYUI_HOME means; None if ComfyUI is to run from where it is found.

    `volume` is RunPod's network volume where one is mounted, else `/workspace` where there is such a folder, else
    `./workspace`.

    Args:
        settings: COMFYUI_HOME.
        cwd: Where relative places lie.
        volumes: Where volumes are mounted; None is where platforms do that.
    """
    if settings.home is None or settings.home == _RUNS_FROM_IMAGE:
        return None
    if settings.home != _ON_VOLUME:
        return (cwd / Path(settings.home).expanduser()).absolute()
    for origin, root in KNOWN_VOLUMES if volumes is None else volumes:
        # A network volume that is not mounted is an empty folder of the container, which ends with it.
        if root.is_mount() or (origin is Origin.POD_VOLUME and root.is_dir()):
            return root / FOLDER_NAME
    return (cwd / "workspace" / FOLDER_NAME).absolute()


def is_home(folder: Path) -> bool:
    """Tell whether a folder holds a ComfyUI that can be started, in itself or in a tree of its own."""
    if (folder / UNFINISHED_NAME).exists() and not (folder / HOME_NOTE).is_file():
        return False
    return (current_tree(folder) / "main.py").is_file()


def read_home(home: Path) -> HomeRecord | None:
    """Return which trees a home has; None if its code is in the folder itself, and always was."""
    try:
        return HomeRecord.model_validate_json((home / HOME_NOTE).read_bytes())
    except (OSError, ValidationError):
        return None


def write_home(home: Path, record: HomeRecord) -> None:
    """Make a tree the current one. At every moment there is the old note or the new one, whole. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    path = home / HOME_NOTE
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, record.model_dump_json(indent=1, exclude_none=True).encode(), is_durable=True)


def tree_path(home: Path, name: str) -> Path:
    """Return where a tree of a home lies."""
    return home if name == ITSELF else trees_folder(home) / name


def trees_folder(home: Path) -> Path:
    """Return the folder that holds the trees of a home."""
    return home / OWN_FOLDER / "trees"


def environments_folder(home: Path) -> Path:
    """Return the folder that holds what the home adds to the Python environment of its ComfyUI."""
    return home / OWN_FOLDER / "environments"


def current_tree(home: Path) -> Path:
    """Return the folder with main.py of the ComfyUI that is current in a home; the home itself if nothing is noted."""
    record = read_home(home)
    return tree_path(home, record.current.name) if record is not None else home
