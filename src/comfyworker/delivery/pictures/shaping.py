"""Pictures made into what the client asked for, beside those that stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from comfyworker.delivery.pictures.formats import named_as, numbered
from comfyworker.delivery.pictures.pieces import CannotStrip, Piece, length
from comfyworker.delivery.pictures.stripping import strip_metadata
from comfyworker.errors import DeliveryFailed, InsufficientStorage
from comfyworker.finishing import in_thread
from comfyworker.jobs import Artifact, ArtifactKind, PictureFormat

_SHARE_BYTES = 256 * 1024 * 1024
"""Memory that each picture at work may take; a larger one takes the shares of several."""
_BYTES_PER_PIXEL = 12  # as Pillow holds it, made into other colours, and the encoder's own


class Shape(BaseModel):
    """What pictures are to be made into."""

    model_config = ConfigDict(frozen=True)

    format: PictureFormat | None = None
    """None leaves each in its own."""
    quality: int | None = None
    """1..100; counts only beside a format that loses something. None takes the format's usual one."""
    strip_metadata: bool = False
    """Take the workflow and all else out that does not decide about the look."""

    @property
    def changes_nothing(self) -> bool:
        """Whether every picture stays as it is."""
        return self.format is None and not self.strip_metadata


class Shaped(BaseModel):
    """A job's artifacts, with pictures as they were asked for."""

    model_config = ConfigDict(frozen=True)

    artifacts: tuple[Artifact, ...]
    """In the order in which they came."""
    warnings: tuple[str, ...] = ()
    """What was left as it is although something else was asked for: a sentence each."""


class _Made(NamedTuple):
    """What became of one picture."""

    path: Path | None = None
    """None if it stays as it is."""
    size_bytes: int = 0
    is_converted: bool = False
    warnings: tuple[str, ...] = ()


class PictureShaper:
    """Makes pictures into what is asked for, off the event loop; one for all jobs of a worker, to bound its memory."""

    def __init__(self, *, at_once: int | None = None) -> None:
        """Work on `at_once` pictures at the same time; by default as many as there are cores for us."""
        self._at_once = at_once or len(os.sched_getaffinity(0))
        self._shares = asyncio.Semaphore(self._at_once)
        self._queue = asyncio.Lock()

    async def shape(self, artifacts: Sequence[Artifact], shape: Shape, *, spool: Path) -> Shaped:
        """Return the artifacts with every still picture as `shape` wants it; all else is passed on.

        A picture that cannot be made into it is passed on, too, with a warning. A changed one has a new file in
        `spool` and no `comfyui_url`, since ComfyUI serves the old one. If cancelled, waits for what is being written.

        Args:
            artifacts: All artifacts of one job: no two of them get the same name.
            shape: What is asked for.
            spool: A folder of ours, made when it is needed; the caller removes it.

        Raises:
            InsufficientStorage: the spool folder's disk is full.
            DeliveryFailed: the spool folder cannot be written.
        """
        if shape.changes_nothing:
            return Shaped(artifacts=tuple(artifacts))
        made: dict[int, _Made] = {}

        async def work(index: int, artifact: Artifact, path: Path) -> None:
            made[index] = await self._make(artifact.name, path, shape, spool)

        try:
            async with asyncio.TaskGroup() as group:
                for index, artifact in enumerate(artifacts):
                    if artifact.kind == ArtifactKind.IMAGE and artifact.path is not None:
                        group.create_task(work(index, artifact, artifact.path), name=f"shape {artifact.name}")
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return Shaped(
            artifacts=_renamed(artifacts, made, shape.format),
            warnings=tuple(warning for index in sorted(made) for warning in made[index].warnings),
        )

    async def _make(self, name: str, path: Path, shape: Shape, spool: Path) -> _Made:
        async with self._share():
            needed_bytes = await in_thread(functools.partial(_memory_for, path, shape))
        async with self._share(needed_bytes):
            return await in_thread(functools.partial(_make, name, path, shape, spool))

    @contextlib.asynccontextmanager
    async def _share(self, needed_bytes: int = 0) -> AsyncIterator[None]:
        """Hold as much of the memory as is needed, or all of it."""
        shares = min(self._at_once, 1 + needed_bytes // _SHARE_BYTES)
        async with contextlib.AsyncExitStack() as held:
            async with self._queue:  # one after the other, or two that need several could wait for each other's
                for _ in range(shares):
                    await held.enter_async_context(self._shares)
            yield


def _memory_for(path: Path, shape: Shape) -> int:
    if shape.format is None:
        with contextlib.suppress(OSError):
            return path.stat().st_size
        return 0
    from comfyworker.delivery.pictures._converting import count_pixels  # noqa: PLC0415  # heavy

    return count_pixels(path) * _BYTES_PER_PIXEL


def _make(name: str, path: Path, shape: Shape, spool: Path) -> _Made:
    """Convert one picture, or else strip it."""
    warnings: list[str] = []
    content = _converted(name, path, shape, warnings)
    is_converted = content is not None
    if content is None and shape.strip_metadata:
        content = _stripped(name, path, warnings)
    if content is None:
        return _Made(warnings=tuple(warnings))
    target = _write(name, content, spool)
    return _Made(target, length(content), is_converted, tuple(warnings))


def _converted(name: str, path: Path, shape: Shape, warnings: list[str]) -> Sequence[Piece] | None:
    if shape.format is None:
        return None
    from comfyworker.delivery.pictures._converting import CannotConvert, Wanted, convert  # noqa: PLC0415  # heavy

    try:
        converted = convert(path, Wanted(shape.format, shape.quality, shape.strip_metadata))
    except CannotConvert as error:
        warnings.append(f"{name} was not made into {shape.format}: {error}")
        return None
    except MemoryError:
        warnings.append(f"{name} was not made into {shape.format}: there is not enough memory for its pixels")
        return None
    if converted is None:
        return None
    if converted.lost_transparency:
        warnings.append(f"{name} is seen through in places, which {shape.format} cannot hold: they are white")
    if converted.left_out:
        names = ", ".join(converted.left_out)
        warnings.append(f"{name} was made into {shape.format} without its metadata that did not fit: {names}")
    return [converted.content]


def _stripped(name: str, path: Path, warnings: list[str]) -> Sequence[Piece] | None:
    try:
        return strip_metadata(path.read_bytes())
    except CannotStrip as error:
        warnings.append(f"{name} keeps its metadata: {error}")
    except OSError:
        warnings.append(f"{name} keeps its metadata: it cannot be read")
    return None


def _write(name: str, content: Iterable[Piece], spool: Path) -> Path:
    # The name on our disk is ours: what ComfyUI reports never becomes a path.
    target = spool / uuid.uuid4().hex
    try:
        spool.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            file.writelines(content)
    except OSError as error:
        with contextlib.suppress(OSError):  # what failed before is what has to be told
            target.unlink()
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InsufficientStorage(
                f"the disk is full: {name} could not be converted",
                hint="Free space where SPOOL_DIR lies, or name another folder there.",
            ) from error
        raise DeliveryFailed(
            f"{name} could not be converted: {error.strerror}",
            hint="Name a folder in SPOOL_DIR that can be written.",
        ) from error
    return target


def _renamed(
    artifacts: Sequence[Artifact], made: dict[int, _Made], format_: PictureFormat | None
) -> tuple[Artifact, ...]:
    """Return the artifacts with what became of them; a new name that another one has is numbered."""
    taken = {(artifact.folder_type, artifact.subfolder, artifact.name) for artifact in artifacts}
    renamed = []
    for index, artifact in enumerate(artifacts):
        result = made.get(index, _Made())
        if result.path is None:
            renamed.append(artifact)
            continue
        changes = {"path": result.path, "size_bytes": result.size_bytes, "comfyui_url": None}
        if result.is_converted and format_ is not None:
            place = (artifact.folder_type, artifact.subfolder)
            name = wanted = named_as(artifact.name, format_)
            number = 1
            while name != artifact.name and (*place, name) in taken:
                number += 1
                name = numbered(wanted, number)
            taken.add((*place, name))
            changes |= {"name": name, "content_type": f"image/{format_}"}
        renamed.append(artifact.model_copy(update=changes))
    return tuple(renamed)
