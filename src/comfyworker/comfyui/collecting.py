"""Outputs brought within reach: found on the shared disk, or streamed to ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.media_types import kind_and_type
from comfyworker.comfyui.outputs import OutputFile, OutputText, parse_outputs, select_outputs
from comfyworker.errors import ComfyUIUnreachable, DeliveryFailed, InsufficientStorage, Problem
from comfyworker.jobs import Artifact, ArtifactKind

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CLOCKS_DIFFER_S = 10.0  # ours and that of a disk on the network
_AT_ONCE = 4  # streams from one ComfyUI; it serves them from one event loop


class Collected(BaseModel):
    """A job's outputs, each with a file on our disk, and what could not be understood of them."""

    model_config = ConfigDict(frozen=True)

    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...]


async def collect_outputs(instance: ComfyUIInstance, outputs: Mapping[str, Any], *, spool: Path) -> Collected:
    """Return the artifacts of an execution, in the order in which ComfyUI reported them.

    Args:
        instance: Where it ran.
        outputs: What each node reported.
        spool: A folder of ours for files that have to be fetched over HTTP; made when it is needed.

    Raises:
        DeliveryFailed: with every file that ComfyUI reported and that is not there.
        InsufficientStorage: the disk is full.
        ComfyUIUnreachable: the connection to ComfyUI broke.
    """
    selected = select_outputs(parse_outputs(outputs))
    if instance.folders is None:
        paths = await _fetch_all(instance, selected.files, spool)
    else:
        paths = {file: _locate(instance.folders, file) for file in selected.files}
    sizes = _sizes(paths)
    artifacts = [
        _file_artifact(file, paths[file], sizes[file], _comfyui_url(instance, file))
        for file in selected.files
        if file in sizes
    ]
    artifacts += [_text_artifact(text, index) for index, text in enumerate(selected.texts, 1)]
    warnings = [
        f"node {file.node_id} shows {file.filename}, which is not in ComfyUI's {file.folder_type} folder"
        for file in selected.files
        if file not in sizes
    ]
    return Collected(artifacts=tuple(artifacts), warnings=(*selected.warnings, *warnings))


def find_outputs(instance: ComfyUIInstance, outputs: Mapping[str, Any]) -> tuple[Artifact, ...]:
    """Return those of an execution's files that are there, where others are not; none without a shared disk."""
    if instance.folders is None:
        return ()
    found = []
    for file in select_outputs(parse_outputs(outputs)).files:
        with contextlib.suppress(DeliveryFailed, OSError):
            path = _locate(instance.folders, file)
            found.append(_file_artifact(file, path, path.stat().st_size, None))
    return tuple(found)


def remove_outputs(folders: Folders, outputs: Mapping[str, Any], nodes: frozenset[str], *, since: float) -> None:
    """Remove the files that `nodes` reported, and the subfolders that are empty then.

    A file that is gone already is no fault, and one that cannot be removed is logged: the job is over either way.

    Args:
        folders: Where they are.
        outputs: What each node reported.
        nodes: Those that ran for this job alone: a cached node of a later job would still refer to its files.
        since: When the job began, in seconds of Unix time. A file that is older is its user's, which a node shows.
    """
    leftovers = []
    for file in parse_outputs({node: ui for node, ui in outputs.items() if node in nodes}).files:
        if file.is_preview:  # a model that a node shows may be the user's own
            continue
        with contextlib.suppress(DeliveryFailed):  # a name that leads elsewhere was never ours to remove
            path = _locate(folders, file)
            if not _is_older(path, since - _CLOCKS_DIFFER_S):
                leftovers.append(path)
    for path in leftovers:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("collect.not_removed", name=path.name, error=error.strerror)
    for folder in {path.parent for path in leftovers}:
        _remove_empty(folder, (folders.output.resolve(), folders.temp.resolve()))


def _locate(folders: Folders, file: OutputFile) -> Path:
    return folders.resolve(file.folder_type, file.subfolder, file.filename)


def _is_older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except OSError:
        return False


def _remove_empty(folder: Path, bases: Sequence[Path]) -> None:
    while any(folder != base and folder.is_relative_to(base) for base in bases):
        try:
            folder.rmdir()
        except OSError:  # not empty: another job's files, or the user's
            return
        folder = folder.parent


def _sizes(paths: Mapping[OutputFile, Path]) -> dict[OutputFile, int]:
    """Return the size of each file that is there; only one that a node merely shows may be missing."""
    sizes: dict[OutputFile, int] = {}
    problems = []
    for file, path in paths.items():
        try:
            sizes[file] = path.stat().st_size
        except OSError:
            if file.is_preview:
                continue
            problems.append(
                Problem(
                    message=f"node {file.node_id} reported {file.filename}, which is not in ComfyUI's folder",
                    node_id=file.node_id,
                    code="missing_output",
                )
            )
    if problems:
        raise DeliveryFailed(
            "; ".join(problem.message for problem in problems),
            hint="Does something else clean ComfyUI's output folder, or does COMFYUI_BASE_DIR name another one?",
            problems=problems,
        )
    return sizes


def _comfyui_url(instance: ComfyUIInstance, file: OutputFile) -> str | None:
    """Return where ComfyUI serves a file; None if it has ended since."""
    try:
        client = instance.client
    except ComfyUIUnreachable:
        return None
    return client.view_url(file.filename, file.subfolder, file.folder_type)


def _file_artifact(file: OutputFile, path: Path, size_bytes: int, comfyui_url: str | None) -> Artifact:
    kind, content_type = kind_and_type(file.filename, file.output_key, file.format_hint)
    return Artifact(
        name=file.filename,
        kind=kind,
        node_id=file.node_id,
        output_key=file.output_key,
        content_type=content_type,
        size_bytes=size_bytes,
        subfolder=file.subfolder,
        folder_type=file.folder_type,
        path=path,
        comfyui_url=comfyui_url,
    )


def _text_artifact(text: OutputText, index: int) -> Artifact:
    return Artifact(
        name=f"text_{index:05}.txt",
        kind=ArtifactKind.TEXT,
        node_id=text.node_id,
        output_key=text.output_key,
        content_type="text/plain; charset=utf-8",
        size_bytes=len(text.text.encode()),
        folder_type="",
        text=text.text,
    )


async def _fetch_all(instance: ComfyUIInstance, files: Sequence[OutputFile], spool: Path) -> dict[OutputFile, Path]:
    limit = asyncio.Semaphore(_AT_ONCE)
    paths: dict[OutputFile, Path] = {}

    async def fetch(file: OutputFile) -> None:
        async with limit:
            paths[file] = await _fetch(instance, file, spool)

    try:
        async with asyncio.TaskGroup() as group:
            for file in files:
                group.create_task(fetch(file), name=f"fetch {file.filename}")
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from group_error
    return paths


async def _fetch(instance: ComfyUIInstance, file: OutputFile, spool: Path) -> Path:
    # The name on our disk is ours: what ComfyUI reports never becomes a path.
    path = spool / uuid.uuid4().hex
    try:
        with await asyncio.to_thread(_create, path) as target:
            chunks = instance.client.view(file.filename, file.subfolder, file.folder_type)
            async with contextlib.aclosing(chunks):  # or a full disk would leave the stream to the garbage collector
                async for chunk in chunks:
                    await asyncio.to_thread(target.write, chunk)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
        # Reported together with all others that are missing.
        return path
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InsufficientStorage(
                f"the disk is full: {file.filename} could not be collected",
                hint="Free space where SPOOL_DIR lies, or name another folder there.",
            ) from error
        raise DeliveryFailed(f"{file.filename} could not be collected: {error.strerror}") from error
    return path


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")
