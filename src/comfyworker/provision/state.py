"""Whether a config.yml is true already: told by notes and the files' own times, without any request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from comfyworker.comfyui.install_record import read_record
from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.config.finding import FoundConfig
from comfyworker.provision.entries import Config, NodeEntry
from comfyworker.provision.nodes.records import LockedNode
from comfyworker.provision.nodes.resolving import folder_of
from comfyworker.provision.nodes.shelf import RECORD_NAME
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.records import (
    PACKAGES_NAME,
    ModelRecord,
    NodeRecord,
    NodesState,
    PackagesNote,
    Wish,
    key_of,
    read_models,
    read_nodes,
    read_note,
)

Part = Literal["models", "nodes"]
"""Half of a config."""

_SHORT_COMMIT = 7
_LOOKERS = 16  # A network disk answers each look in milliseconds, but many at the same time.
_TORCH = re.compile(r"^__version__\s*=\s*['\"]([^'\"]+)", re.MULTILINE)
_PYTHON = re.compile(r"^version(?:_info)?\s*=\s*(\S+)", re.MULTILINE)


def is_unchanged(found: FoundConfig, place: ProvisionPlace, *, only: Part | None = None) -> bool:
    """Tell whether all that a config asks for is there as it shall be, optional items too.

    Reads the notes and looks at each model's size and time; a file that was deleted or cut by hand is noticed. Takes
    milliseconds on a warm disk. Blocks.
    """
    config = found.config
    if only != "nodes" and config.models and not _has_models(config, place):
        return False
    return only == "models" or _has_nodes(config, place)


def still_there(records: Sequence[ModelRecord], models: Path, own: Path | None = None) -> list[bool]:
    """Tell for each record whether its file is still as it was noted; looks at many at the same time."""
    if not records:
        return []
    with ThreadPoolExecutor(min(_LOOKERS, len(records))) as threads:
        return list(threads.map(lambda record: record.receipt.describes(record.path(models, own)), records))


def environment_key(installation: Installation) -> str:
    """Return what custom nodes' packages depend on: ComfyUI's version, its Python and its torch; read as text."""
    return f"comfyui {installation.version} python {_python_of(installation)} torch {_torch_of(installation)}"


def packages_key(nodes: Sequence[LockedNode], pip: Sequence[str], environment: str) -> str:
    """Return what stands for the packages that some custom nodes and `pip` need in an environment."""
    parts = [environment, *sorted(f"{node.folder} {node.digest}" for node in nodes), *sorted(pip)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def packages_note(installation: Installation) -> Path:
    """Return where it is noted which packages ComfyUI's environment has: in the environment, to be lost with it."""
    return installation.python.parent.parent / PACKAGES_NAME


def has_packages(installation: Installation, key: str) -> bool:
    """Tell whether the environment has the packages that `key` stands for."""
    note = read_note(packages_note(installation), PackagesNote)
    return note is not None and note.packages == key


def is_placed(record: NodeRecord, custom_nodes: Path) -> bool:
    """Tell whether a custom node's folder is there, and is one that we placed."""
    return (custom_nodes / record.resolved.folder / RECORD_NAME).is_file()


def node_of(entry: NodeEntry, state: NodesState) -> NodeRecord | None:
    """Return the record of the custom node that an entry asks for; None if there is none that serves it."""
    try:
        record = state.nodes.get(folder_of(entry))
    except NodeInstallFailed:
        return None
    return record if record is not None and record.serves(entry) else None


def proven_locks(state: NodesState, environment: str) -> list[LockedNode]:
    """Return the custom nodes whose packages are in an environment and that load in it."""
    return [record.resolved.lock() for record in state.nodes.values() if record.environment == environment]


def gone_nodes(config: Config, state: NodesState) -> tuple[str, ...]:
    """Return the folders that a config.yml once asked for and this one does not."""
    wanted = set()
    for entry in config.nodes:
        try:
            wanted.add(folder_of(entry))
        except NodeInstallFailed:
            continue
    return tuple(
        sorted(folder for folder, record in state.nodes.items() if record.wish is Wish.CONFIG and folder not in wanted)
    )


def is_version(wanted: str | None, installation: Installation) -> bool:
    """Tell whether ComfyUI is the version that a config asks for, if it asks for one."""
    if wanted is None or wanted.removeprefix("v") == (installation.version or "").removeprefix("v"):
        return True
    record = read_record(installation.path)  # a commit or a branch is known only to who installed it
    if record is None:
        return False
    is_commit = len(wanted) >= _SHORT_COMMIT and (record.commit or "").startswith(wanted.lower())
    return is_commit or record.ref == wanted


def _has_models(config: Config, place: ProvisionPlace) -> bool:
    if place.models is None:
        return False
    state = read_models(place.models_state)
    by_key = {record.key: record for record in state.models.values()}
    records = []
    for entry in config.models:
        record = by_key.get(key_of(entry))
        if record is None or not record.serves(entry):
            return False
        records.append(record)
    return all(still_there(records, place.models, place.own_models))


def _has_nodes(config: Config, place: ProvisionPlace) -> bool:
    wants = bool(config.nodes or config.pip or config.comfyui_version)
    installation, folder, custom_nodes = place.installation, place.nodes_state, place.custom_nodes
    if installation is None or folder is None or custom_nodes is None:
        return not wants
    state = read_nodes(folder)
    environment = environment_key(installation)
    records = [node_of(entry, state) for entry in config.nodes]
    found = [record for record in records if record is not None and record.environment == environment]
    if len(found) < len(config.nodes) or gone_nodes(config, state):
        return False
    if not is_version(config.comfyui_version, installation) or not all(is_placed(r, custom_nodes) for r in found):
        return False
    locks = proven_locks(state, environment)
    return not (locks or config.pip) or has_packages(installation, packages_key(locks, config.pip, environment))


def _python_of(installation: Installation) -> str:
    try:
        text = (installation.python.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = _PYTHON.search(text)
    return match.group(1) if match else installation.python.resolve().name


def _torch_of(installation: Installation) -> str | None:
    library = installation.python.parent.parent / "lib"
    for module in library.glob("python*/site-packages/torch/version.py"):
        match = _TORCH.search(module.read_text(encoding="utf-8", errors="replace"))
        return match.group(1) if match else None
    named = next(library.glob("python*/site-packages/torch-*.dist-info"), None)
    return named.name.removeprefix("torch-").removesuffix(".dist-info") if named else None
