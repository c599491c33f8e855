"""Finished files, kept in the job's own folder until its result expires."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import functools
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from comfyworker.delivery.protocol import Delivery
from comfyworker.errors import DeliveryFailed, InsufficientStorage, InternalError, WorkerError
from comfyworker.finishing import in_thread
from comfyworker.jobs import Artifact, JobRequest
from comfyworker.service.packing import whole_text
from comfyworker.service.records import JobRecord, KeptArtifact

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}

# A context variable: a delivery is chosen deep within the runner, which knows requests and not whose they are.
_delivery: contextvars.ContextVar[Delivery] = contextvars.ContextVar("the running job's delivery")


_record: contextvars.ContextVar[JobRecord] = contextvars.ContextVar("the running job")


def running_record() -> JobRecord:
    """Return the job that runs in this context, as it stood when it began.

    Raises:
        InternalError: no job of the service runs here.
    """
    try:
        return _record.get()
    except LookupError:
        raise InternalError("no job of the job service runs here") from None


def kept_delivery(request: JobRequest) -> Delivery:
    """Return the delivery that keeps the files of the job which runs in this context.

    It is what a host gives to `Deliveries` as `serve`.

    Raises:
        InternalError: no job of the service runs here.
    """
    try:
        return _delivery.get()
    except LookupError:
        raise InternalError(f"the job {request.id} does not run in the job service") from None


@contextlib.contextmanager
def keeping_in(folder: Path, record: JobRecord, *, copies: bool) -> Iterator[None]:
    """Within the context, have the job `record` run, and its files kept in `folder`."""
    token, running = _delivery.set(KeepDelivery(folder, copies=copies)), _record.set(record)
    try:
        yield
    finally:
        _delivery.reset(token)
        _record.reset(running)


class KeepDelivery:
    """Keeps each file of one job, under a name that nobody chose."""

    keeps_outputs = False

    def __init__(self, folder: Path, *, copies: bool) -> None:
        """Keep files in `folder`, which is made when there is one.

        Args:
            folder: The folder.
            copies: Copy files even where a hard link would do: their originals stay and may be written to again.
        """
        self._folder = folder
        self._copies = copies

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[KeptArtifact, ...]:
        """Return the artifacts with the kept files as their `path`, and with their hashes.

        Raises:
            InsufficientStorage: the disk is full; nothing is kept.
            DeliveryFailed: a file cannot be read, or the folder not be written; nothing is kept.
        """
        kept: list[KeptArtifact] = []
        try:
            for artifact in artifacts:
                # Noted by the thread itself: who is cancelled meanwhile does not hear what it returns.
                await in_thread(functools.partial(self._keep, artifact, kept))
        except BaseException:
            for artifact in kept:
                if artifact.path is not None:
                    artifact.path.unlink(missing_ok=True)
            raise
        return tuple(kept)

    def _keep(self, artifact: Artifact, kept: list[KeptArtifact]) -> None:
        asset_id = str(uuid.uuid4())
        if artifact.path is None:
            kept.append(as_kept(artifact, asset_id=asset_id))
            return
        target = self._folder / asset_id
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _bring(artifact.path, target, copies=self._copies)
            size_bytes, digest = target.stat().st_size, hash_file(target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise unkept(artifact.name, error) from error
        kept.append(as_kept(artifact, asset_id=asset_id, path=target, size_bytes=size_bytes, hash=digest))


def as_kept(artifact: Artifact, **changes: object) -> KeptArtifact:
    """Return an artifact as one that the service keeps the record of; its name can stand in a URL and a header."""
    return KeptArtifact.model_construct(**{**dict(artifact), "name": whole_text(artifact.name), **changes})


def hash_file(path: Path) -> str:
    """Return `blake3:<hex>` of a file. Blocks."""
    return f"blake3:{blake3().update_mmap(path).hexdigest()}"


def link_or_copy(source: Path, target: Path) -> None:
    """Have the bytes of one file in another, without copying them where the disk can. Blocks."""
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)


def _bring(source: Path, target: Path, *, copies: bool) -> None:
    if copies:
        shutil.copyfile(source, target)
    else:
        link_or_copy(source, target)


def unwritten(what: str, error: OSError) -> WorkerError:
    """Return why something that came in is not on the disk."""
    if error.errno in _FULL:
        return InsufficientStorage(
            f"the disk with the worker's STATE_DIR is full: {what} could not be written",
            hint="Free space on it, or give the worker a larger disk.",
        )
    return InternalError(
        f"{what} could not be written: {error.strerror}",
        hint="The user that the worker runs as must be able to write to its STATE_DIR.",
    )


def unkept(name: str, error: OSError) -> WorkerError:
    """Return why the file `name` is not kept."""
    if error.errno in _FULL:
        return InsufficientStorage(
            f"the disk with the worker's STATE_DIR is full: {name} could not be kept",
            hint="Free space on it, or have results expire sooner with RESULT_TTL_S.",
        )
    return DeliveryFailed(
        f"{name} could not be kept: {error.strerror}",
        hint="Something removed the file before it was delivered, or the worker cannot write to its STATE_DIR.",
    )
