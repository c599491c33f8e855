"""Overlays made: see comfyui/overlay.py for what they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from comfyworker.comfyui.home import environments_folder
from comfyworker.comfyui.installing.commands import python_command, version_pins
from comfyworker.comfyui.locate import read_version
from comfyworker.comfyui.overlay import (
    NOTE_NAME,
    OverlayNote,
    below,
    list_packages,
    overlay_path,
    read_overlay,
    site_packages,
    torch_of,
)
from comfyworker.comfyui.running import CommandFailed, ignore_line, run_command
from comfyworker.errors import InstallFailed
from comfyworker.provision.home.trees import MAKING_PREFIX
from comfyworker.provision.nodes.installer import Installer, Plan
from comfyworker.provision.nodes.packages import KEPT, torch_stack
from comfyworker.provision.nodes.requirements import read_needs
from comfyworker.redaction import redact

_INSTALL_LIMIT_S = 1800.0
_INFO = ".dist-info"
_COPIED = ("METADATA", "WHEEL", "RECORD", "INSTALLER", "direct_url.json", "entry_points.txt", "top_level.txt")
_PTH_NAME = "comfyworker-below.pth"


async def make_overlay(
    home: Path,
    tree: Path,
    base: Path,
    *,
    current: Path | None = None,
    on_line: Callable[[str], None] = ignore_line,
    note: Callable[[str], None] = ignore_line,
) -> Path:
    """Make the overlay on the environment of `base` for a tree, if it is not there; return its interpreter.

    What the tree's requirements.txt asks for and the environment below does not have is installed into it; torch stays
    as it is. Packages of custom nodes in the overlay that was used before go along: as files where Python and torch are
    the same, else installed anew. It is made under another name and renamed, so that what there is is whole.

    Args:
        home: The folder that ComfyUI lives in.
        tree: ComfyUI's code.
        base: The interpreter of the environment below.
        current: The interpreter that was used until now; None if there was none.
        on_line: Hears uv.
        note: Hears what could not be brought along, in sentences.

    Raises:
        InstallFailed: it cannot be made, or what the tree needs cannot be had.
        OSError: the disk is full, or cannot be written.
    """
    base = below(base)
    place = overlay_path(home, tree, base)
    if place is None:
        raise InstallFailed(
            "the Python of ComfyUI is in no environment that packages could be added to",
            hint="Name one that is, with COMFYUI_PYTHON, or make a ComfyUI with `comfyworker comfyui install`.",
        )
    if read_overlay(place) is not None:
        return place / "bin" / "python"
    making = environments_folder(home) / f"{MAKING_PREFIX}{place.name}-{secrets.token_hex(4)}"
    try:
        await _fill(making, base, tree, current, on_line, note)
        await asyncio.to_thread(_put_in_place, making, place)
    finally:
        await asyncio.to_thread(shutil.rmtree, making, ignore_errors=True)
    return place / "bin" / "python"


async def _fill(
    making: Path,
    base: Path,
    tree: Path,
    current: Path | None,
    on_line: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    making.parent.mkdir(parents=True, exist_ok=True)
    try:
        await run_command(python_command(base, "-m", "venv", "--without-pip", str(making)))
    except CommandFailed as error:
        raise error.to_install_failed(
            "what belongs in front of ComfyUI's environment could not be made", "Is there room on the disk?"
        ) from error
    made = await asyncio.to_thread(_lay_over, making, base)
    old = read_overlay(current.parent.parent) if current is not None else None
    python = making / "bin" / "python"
    if current is not None and old is not None:
        if (old.library, old.torch) == (made.library, made.torch):
            await asyncio.to_thread(_bring_along, current.parent.parent, old, making, made)
        else:
            own = await asyncio.to_thread(_own_packages, current.parent.parent, old)
            await _install_anew(python, own, made, on_line, note)
    await _install_requirements(python, tree, on_line)
    (making / NOTE_NAME).write_text(made.model_dump_json(indent=1), encoding="utf-8")


def _lay_over(making: Path, base: Path) -> OverlayNote:
    """Have an empty environment find the packages of the one below, and uv see which these are."""
    site, under = _site(making / "bin" / "python"), _site(base)
    # By `site`, so that .pth files in the environment below are followed too.
    line = f"import site; site.addsitedir({str(under)!r})\n"
    (site / _PTH_NAME).write_text(line, encoding="utf-8")
    packages = list_packages(under)
    for name in packages:
        if name.startswith("pip-"):  # it would count as installed, and is no module there
            continue
        target = site / f"{name}{_INFO}"
        target.mkdir()
        for file in _COPIED:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(under / f"{name}{_INFO}" / file, target / file)
    return OverlayNote(python=str(base), library=site.parent.name, torch=torch_of(under), below=packages)


def _bring_along(old: Path, old_note: OverlayNote, making: Path, made: OverlayNote) -> None:
    """Have an overlay begin with the packages of another one on the same Python and torch."""
    source, target = _site(old / "bin" / "python"), _site(making / "bin" / "python")
    own = {f"{name}{_INFO}" for name in _own_packages(old, old_note)}
    shared = {f"{name}{_INFO}" for name in old_note.below}
    for info in own:
        # In front of the one below there is another version of it: that one's note goes.
        name = _name_of(info)
        for other in made.below:
            if _name_of(other) == name:
                shutil.rmtree(target / f"{other}{_INFO}", ignore_errors=True)
    for entry in sorted(source.iterdir()):
        if entry.name in shared | {_PTH_NAME, "__pycache__"}:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(
                entry, target / entry.name, symlinks=True, copy_function=_link_or_copy, dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__"),
            )  # fmt: skip
        else:
            _link_or_copy(str(entry), str(target / entry.name))


def _link_or_copy(source: str, target: str) -> str:
    # Installers put a new file in the place of an old one and never write into it, so two may share it.
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _own_packages(environment: Path, note: OverlayNote) -> tuple[str, ...]:
    """Return the packages that an overlay itself has, as `name-version`."""
    shared = set(note.below)
    return tuple(name for name in list_packages(_site(environment / "bin" / "python")) if name not in shared)


async def _install_anew(
    python: Path,
    packages: Sequence[str],
    made: OverlayNote,
    on_line: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Install what custom nodes had for another Python or torch; what cannot be had is told, and no more."""
    names = [(_name_of(package), package.rpartition("-")[2]) for package in packages]
    there = {_name_of(package) for package in made.below}
    wanted = [(name, version) for name, version in names if name not in KEPT]
    # What was in front of a package below had a reason there that may be gone; the requirements say what is needed.
    wanted = [(name, version) for name, version in wanted if name not in there]
    if not wanted:
        return
    for texts in (tuple(f"{name}=={version}" for name, version in wanted), tuple(name for name, _ in wanted)):
        try:
            await _install(python, texts, (), on_line)
        except InstallFailed:
            continue
        return
    note(f"Packages that custom nodes had were not brought along: {', '.join(name for name, _ in wanted)}.")


async def _install_requirements(python: Path, tree: Path, on_line: Callable[[str], None]) -> None:
    needs = await asyncio.to_thread(read_needs, tree)
    if needs is None:
        return
    texts = tuple(need.text for need in needs.needs if need.name not in KEPT)
    pins = tuple(_pins(tree))
    await _install(python, texts, pins, on_line, indexes=needs.indexes)


def _pins(tree: Path) -> Iterator[str]:
    """Yield the versions that were seen working with the ComfyUI of a tree."""
    for path in version_pins(read_version(tree)):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.strip()


async def _install(
    python: Path,
    texts: tuple[str, ...],
    pins: tuple[str, ...],
    on_line: Callable[[str], None],
    *,
    indexes: tuple[str, ...] = (),
) -> None:
    installer = Installer(python, limit_s=_INSTALL_LIMIT_S, on_line=on_line)
    installed = await installer.list_installed()
    # What is there already may be another version than the one that was seen working, and meet the need as well.
    held = (
        *torch_stack(installed),
        *(pin for pin in pins if canonicalize_name(pin.partition("==")[0]) not in installed),
    )
    with tempfile.TemporaryDirectory(prefix="comfyworker-environment-") as folder:
        plan = Plan(folder=Path(folder), requirements=texts, constraints=held, indexes=indexes)
        attempt = await installer.run(plan, is_dry=False)
    if attempt.error is not None:
        raise InstallFailed(
            f"what this version of ComfyUI needs cannot be installed beside the torch that is there: {attempt.error}",
            hint="Is the network up? Else a newer image, or a new `comfyworker comfyui install`, brings what it needs.",
            details={"output": redact("\n".join(attempt.error.tail))},
        ) from attempt.error


def _put_in_place(making: Path, place: Path) -> None:
    try:
        making.rename(place)
    except OSError:
        if read_overlay(place) is not None:
            return  # another worker has made it meanwhile
        shutil.rmtree(place, ignore_errors=True)
        making.rename(place)


def _site(python: Path) -> Path:
    site = site_packages(python)
    if site is None:
        raise InstallFailed(
            "the environment of ComfyUI has no folder of packages", hint="Name another one with COMFYUI_PYTHON."
        )
    return site


def _name_of(package: str) -> str:
    """Return the normalised name of `name-version` or its folder."""
    return canonicalize_name(package.removesuffix(_INFO).rpartition("-")[0])
