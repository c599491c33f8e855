"""Copies of models on the local disk, which ComfyUI finds before the models themselves.

A copy has its model's name and time, and is right as long as the model has that time and size; its own time of access
is that of its last use. So there is no list beside the files that could differ from them, and workers that share the
folder need to agree on nothing. A copy that has to go becomes a link to its model in one step: ComfyUI finds the name
at every moment, and a file that it is reading stays until it has read it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from comfyworker.prefetch.draft import Draft, Elsewhere, NoRoom, unnoticed
from comfyworker.prefetch.order import ModelFile, SearchOrder

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SPARE_BYTES: Final = 2_000_000_000
"""What is left free on the disk: outputs and ComfyUI need some of it."""
_DRAFTS: Final = ".drafts"
_LOCK: Final = ".lock"
_ORDER: Final = ".order.json"
_BLOCK: Final = 512
"""Bytes in a unit of st_blocks."""
_ABANDONED_AFTER_S: Final = 60.0


@dataclass(frozen=True)
class Copy:
    """A copy that is there."""

    path: Path
    folder: Path
    """The folder of its search order."""
    size_bytes: int
    used_at_ns: int

    @property
    def kind(self) -> str:
        """The kind of model."""
        return self.path.relative_to(self.folder).parts[0]

    @property
    def name(self) -> str:
        """The model's name, as a workflow has it."""
        return str(self.path.relative_to(self.folder / self.kind))


@dataclass(frozen=True)
class Contents:
    """What there is of copies."""

    files: int
    size_bytes: int


class LocalCopies:
    """A folder of copies; all of its methods block for as long as the local disk takes."""

    def __init__(
        self,
        root: Path,
        *,
        most_bytes: int,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        """Keep copies below `root`.

        Args:
            root: The folder, on a local disk; made when it is needed.
            most_bytes: What all copies may take together, those of other workers included.
            spare_bytes: What is left free on the disk.
        """
        self.root = root
        self._most_bytes = most_bytes
        self._spare_bytes = spare_bytes
        self.on_evicted: Callable[[], None] | None = None
        """Hears of each copy that made room for another."""
        self.device: int | None = None
        """The file system that copies are on; None before `open`."""
        self.order = SearchOrder(folders={})
        """Where ComfyUI looks for the models themselves."""
        self._folder = root / self.order.digest

    def open(self, order: SearchOrder) -> dict[str, Path]:
        """Make the folders for copies of an order's models; return them by kind.

        Copies whose models are others now, or gone, do not outlast this; unfinished ones that nobody writes go too.

        Raises:
            OSError: the folder cannot be written.
        """
        self.order, self._folder = order, self.root / order.digest
        kinds = [kind for kind in order.folders if "/" not in kind and not kind.startswith(".")]
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / _DRAFTS).mkdir(mode=0o700, exist_ok=True)
        self.device = self.root.stat().st_dev
        for kind in kinds:
            (self._folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
        # For workers with another order, which may have to make room of these copies.
        draft = self.root / _DRAFTS / f"order-{secrets.token_hex(4)}"
        draft.write_text(order.model_dump_json(), encoding="utf-8")
        draft.replace(self._folder / _ORDER)
        self._remove_abandoned()
        self.sweep()
        return {kind: self._folder / kind for kind in kinds}

    def has(self, file: ModelFile) -> bool:
        """Tell whether there is a copy of the file as it is now; one of what it was before is let go."""
        path = self._path_of(file)
        try:
            found = path.lstat()
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode):
            return False
        if (found.st_size, found.st_mtime_ns) == (file.size_bytes, file.mtime_ns):
            return True
        self._link(path, file.path)
        log.info("prefetch.copy_outdated", kind=file.kind, model=file.name)
        return False

    def touch(self, file: ModelFile) -> None:
        """Note that a copy is used now."""
        with contextlib.suppress(OSError):  # it has made room since
            os.utime(self._path_of(file), ns=(time.time_ns(), file.mtime_ns), follow_symlinks=False)

    def sweep(self) -> None:
        """Let go of copies whose models are others now, and remove those whose models are gone."""
        for path in _files(self._folder):
            kind, *parts = path.relative_to(self._folder).parts
            try:
                model = self.order.find(kind, "/".join(parts))
                if model is None:
                    path.unlink()  # its folder gets another time: ComfyUI shall list its names anew
                    log.info("prefetch.copy_removed", kind=kind, model="/".join(parts), reason="its model is gone")
                elif path.is_symlink():
                    if path.readlink() != model.path:
                        self._link(path, model.path)
                else:
                    self.has(model)
            except OSError as error:  # the volume cannot be read now
                log.debug("prefetch.copy_not_checked", kind=kind, reason=error.strerror)

    def begin(self, file: ModelFile, *, keep: frozenset[tuple[str, str]], evicts: bool) -> Draft:
        """Begin to copy a file; room is held for all of it.

        Args:
            file: What is copied.
            keep: Kind and name of models whose copies are in use, and stay.
            evicts: Whether copies that were used least recently make room for it.

        Raises:
            NoRoom: there is none, or not enough could be made.
            Elsewhere: another worker copies the same file now.
            OSError: the folder cannot be written.
        """
        with self._locked():
            # One name for each copy, whichever worker makes it.
            digest = hashlib.sha256(os.fsencode(self._path_of(file))).hexdigest()[:32]
            draft = Draft.take(self.root / _DRAFTS / f"{digest}.part")
            try:
                self._make_room(file.size_bytes, keep, evicts=evicts)
                draft.reserve(file.size_bytes)
            except BaseException:
                draft.discard()
                raise
        return draft

    def place(self, draft: Draft, file: ModelFile) -> None:
        """Have a draft that is whole be the copy of a file.

        Raises:
            OSError: it cannot be brought to the disk.
        """
        draft.finish(self._path_of(file), mtime_ns=file.mtime_ns)

    def contents(self) -> Contents:
        """Return how many copies there are, and what they take; those of other workers included."""
        copies = list(self._copies())
        return Contents(files=len(copies), size_bytes=sum(copy.size_bytes for copy in copies))

    def copied(self, paths: Mapping[str, Path]) -> frozenset[str]:
        """Return which models have a copy that is right.

        Args:
            paths: Where models lie, by what the caller calls them.
        """
        by_path = {}
        for copy in self._copies():
            with contextlib.suppress(OSError):
                order = self._order_of(copy.folder)
                model = order.find(copy.kind, copy.name) if order is not None else None
                if model is not None and model.mtime_ns == copy.path.stat().st_mtime_ns:
                    by_path[str(model.path.resolve())] = copy
        return frozenset(name for name, path in paths.items() if str(path.resolve()) in by_path)

    def _path_of(self, file: ModelFile) -> Path:
        return self._folder / file.kind / file.name

    def _make_room(self, wanted_bytes: int, keep: frozenset[tuple[str, str]], *, evicts: bool) -> None:
        if wanted_bytes > self._most_bytes:
            message = "it is larger than all copies together may be"
            raise NoRoom(message)
        copies = sorted(self._copies(), key=lambda copy: copy.used_at_ns)
        missing = self._missing_bytes(wanted_bytes, copies)
        if missing <= 0:
            return
        idle = [copy for copy in copies if copy.folder != self._folder or (copy.kind, copy.name) not in keep]
        if not evicts or sum(copy.size_bytes for copy in idle) < missing:
            message = "there is no room for another copy"
            raise NoRoom(message)
        for copy in idle:
            self._evict(copy)
            missing -= copy.size_bytes
            if missing <= 0:
                break
        # A copy that ComfyUI has mapped takes its room until it is let go there.
        if self._missing_bytes(wanted_bytes, list(self._copies())) > 0:
            message = "the room of the copies that went is not free yet"
            raise NoRoom(message)

    def _missing_bytes(self, wanted_bytes: int, copies: list[Copy]) -> int:
        """Return how many bytes must go for a file; drafts of other workers count as if they were done."""
        reserved, written = 0, 0
        for path in self._drafts():
            with contextlib.suppress(OSError):
                found = path.lstat()
                reserved, written = reserved + found.st_size, written + found.st_blocks * _BLOCK
        used = sum(copy.size_bytes for copy in copies) + reserved
        free = shutil.disk_usage(self.root).free - max(reserved - written, 0)
        return max(used + wanted_bytes - self._most_bytes, wanted_bytes + self._spare_bytes - free)

    def _evict(self, copy: Copy) -> None:
        order = self._order_of(copy.folder)
        model = order.find(copy.kind, copy.name) if order is not None else None
        if model is None:
            copy.path.unlink(missing_ok=True)
        else:
            self._link(copy.path, model.path)
        log.info("prefetch.copy_evicted", kind=copy.kind, model=copy.name, size_bytes=copy.size_bytes)
        if self.on_evicted is not None:
            self.on_evicted()

    def _order_of(self, folder: Path) -> SearchOrder | None:
        """Return the search order that a folder of copies is for; None if that cannot be told."""
        if folder == self._folder and self.order.folders:
            return self.order
        try:
            return SearchOrder.model_validate_json((folder / _ORDER).read_bytes())
        except (OSError, ValidationError):
            return None

    def _link(self, path: Path, model: Path) -> None:
        """Put a link to the model in place of a copy, in one step."""
        link = self.root / _DRAFTS / f"link-{secrets.token_hex(8)}"
        link.symlink_to(model)
        with unnoticed(path.parent):
            link.replace(path)

    def _copies(self) -> Iterator[Copy]:
        with contextlib.suppress(OSError):  # it is not there yet, or cannot be read
            for folder in sorted(self.root.iterdir()):
                if folder.name.startswith(".") or not folder.is_dir():
                    continue
                for path in _files(folder):
                    with contextlib.suppress(OSError):
                        found = path.lstat()
                        if stat.S_ISREG(found.st_mode):
                            yield Copy(path, folder, found.st_size, found.st_atime_ns)

    def _drafts(self) -> Iterator[Path]:
        yield from (self.root / _DRAFTS).glob("*.part")

    def _remove_abandoned(self) -> None:
        """Remove drafts of workers that have ended, and links of those that were killed while they made them."""
        for path in self._drafts():
            draft = None
            with contextlib.suppress(Elsewhere, OSError):
                draft = Draft.take(path)
            if draft is not None:
                log.info("prefetch.leftover_removed", size_bytes=path.stat().st_blocks * _BLOCK)
                draft.discard()
        for path in (*(self.root / _DRAFTS).glob("link-*"), *(self.root / _DRAFTS).glob("order-*")):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one worker at a time decide what goes; where the disk has no locks, two may let go of too much."""
        descriptor = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def is_full(error: OSError) -> bool:
    """Tell whether a disk, a quota or a limit on files has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files and links in the folders for kinds, sorted; none of the folder's own."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        if Path(root) != folder:
            yield from (Path(root) / name for name in sorted(names))
