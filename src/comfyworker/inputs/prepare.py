"""The files of a request, decoded or fetched and checked, before any of them touches a disk."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field

from comfyworker.errors import InvalidRequest, MissingAsset, Problem
from comfyworker.inputs._problems import combine, refuse
from comfyworker.inputs.decode import check_name, decode_data
from comfyworker.inputs.fetched import Fetched
from comfyworker.inputs.media import Media, identify
from comfyworker.jobs import ArtifactKind, InputFile
from comfyworker.settings import InputSettings
from comfyworker.workflow.files import UrlInput
from comfyworker.workflow.urls import file_name, is_url, shown_name, shown_url

_INLINE_CHARS = 256 * 1024
"""Up to this many characters of base64 the work takes less time than the way to a thread and back."""


class DecodedFile(BaseModel):
    """One input file, ready to be placed."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(repr=False)
    """The name by which the workflow calls it; a URL may stand for it, so it is shown by `shown_name` only."""
    data: bytes | Path = Field(repr=False)
    """Its bytes, or where they lie on our disk."""
    kind: ArtifactKind
    extension: str
    """By the bytes, not by the name; without a dot."""
    digest: str
    """BLAKE3 of the bytes, in hex."""

    @property
    def stored_name(self) -> str:
        """The name under which ComfyUI gets it: equal bytes have equal names, and no part comes from the caller."""
        return f"{self.digest}.{self.extension}"


class _Place(NamedTuple):
    """Where a file stands in the request."""

    file: InputFile
    path: str
    name_path: str
    node_id: str | None = None
    input_name: str | None = None
    takes: tuple[str, ...] = ()
    """The kinds of files that the node loads; none if that is not known."""

    def located(self, error: InvalidRequest) -> InvalidRequest:
        """Return `error` with the file's place in its problems, as far as they do not name it."""
        known = self.path, self.name_path
        problems = [
            problem.model_copy(
                update={
                    "path": problem.path if problem.path in known else self.path,
                    "node_id": self.node_id,
                    "input_name": self.input_name,
                }
            )
            for problem in error.problems
        ]
        return InvalidRequest(error.message, hint=error.hint, problems=problems)


async def prepare_files(
    files: Sequence[InputFile], settings: InputSettings, *, url_inputs: Sequence[UrlInput] = ()
) -> tuple[DecodedFile, ...]:
    """Return the files of a request as checked bytes; a file that was sent twice is in it once.

    Files that are URLs are fetched, each URL once. Large files are decoded in a thread, so that the event loop never
    waits for them.

    Args:
        files: What came with the request.
        settings: The limits.
        url_inputs: URLs that stand in the workflow itself. Each becomes a file that is named by the URL, as
            `rename_files` wants it; one that `files` brings under that name is not fetched.

    Raises:
        InvalidRequest: with *everything* that is wrong with the files: names, URLs, encoding, size, content, and two
            files of one name.
        MissingAsset: files that the host had taken in are gone.
    """
    places = _places(files, url_inputs)
    on_disk = [place for place in places if place.file.path is not None]
    if on_disk:
        await asyncio.to_thread(_refuse_missing, on_disk)
    fetched = await _fetch([place.file.data for place in places if is_url(place.file.data)], settings)
    decoded: dict[str, DecodedFile] = {}
    faults: list[InvalidRequest] = []
    for place in places:
        try:
            size = max(len(place.file.data), len(fetched.data.get(place.file.data, b"")))
            if place.file.path is not None or size > _INLINE_CHARS:
                prepared = await asyncio.to_thread(_prepare, place, fetched, settings)
            else:
                prepared = _prepare(place, fetched, settings)
            if decoded.setdefault(prepared.name, prepared).digest != prepared.digest:
                raise _named_twice(prepared.name, place.name_path)
        except InvalidRequest as error:
            faults.append(place.located(error))
    if faults:
        raise combine(faults)
    return tuple(decoded.values())


def _places(files: Sequence[InputFile], url_inputs: Sequence[UrlInput]) -> list[_Place]:
    sent = [_place(index, file) for index, file in enumerate(files)]
    names = {file.name for file in files}
    for found in url_inputs:
        if found.url not in names:
            path = f"workflow.{found.node_id}.inputs.{found.input_name}"
            file = InputFile(name=found.url, data=found.url)
            sent.append(_Place(file, path, path, found.node_id, found.input_name, found.takes))
    return sent


def _place(index: int, file: InputFile) -> _Place:
    if file.path is not None:
        return _Place(file, f"asset '{file.name}'", f"asset '{file.name}'")
    return _Place(file, f"images[{index}].image", f"images[{index}].name")


def _refuse_missing(places: Sequence[_Place]) -> None:
    problems = [
        Problem(message=f"{place.path} is there no more", code="missing_asset", path=place.path)
        for place in places
        if place.file.path is not None and not place.file.path.is_file()
    ]
    if problems:
        message = "; ".join(problem.message for problem in problems)
        hint = "It was deleted or has expired before the job began: upload it again."
        raise MissingAsset(message, hint=hint, problems=problems)


async def _fetch(urls: Sequence[str], settings: InputSettings) -> Fetched:
    if not urls:
        return Fetched({}, {})
    # Its retries take 20 ms to import, which only jobs with URLs need.
    from comfyworker.inputs.fetch import fetch_urls  # noqa: PLC0415

    return await fetch_urls(urls, settings)


def _prepare(place: _Place, fetched: Fetched, settings: InputSettings) -> DecodedFile:
    name = place.file.name
    faults: list[InvalidRequest] = []
    try:
        # A URL in a node is no name that the caller chose, and it is held to the rules for URLs.
        if place.node_id is None:
            check_name(name, path=place.name_path)
    except InvalidRequest as error:
        faults.append(error)
    data: bytes | Path
    try:
        if place.file.path is not None:
            data, (media, digest) = place.file.path, _look_at(place.file.path, place, settings)
        else:
            data, media = _content(place, fetched, settings)
            digest = blake3(data).hexdigest()
    except InvalidRequest as error:
        raise combine([*faults, error]) from error
    if faults:
        raise combine(faults)
    return DecodedFile(name=name, data=data, kind=media.kind, extension=media.extension, digest=digest)


def _look_at(path: Path, place: _Place, settings: InputSettings) -> tuple[Media, str]:
    """Return what a file on our disk is, and its digest; however large it is, it is never in memory as a whole."""
    if path.stat().st_size == 0:
        raise refuse(f"{place.path} is empty", code="empty_file", path=place.path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        name = place.file.name
        media = identify(content, name=name, path=place.path, max_pixels=settings.max_pixels, takes_all=True)
    return media, blake3().update_mmap(path).hexdigest()


def _content(place: _Place, fetched: Fetched, settings: InputSettings) -> tuple[bytes, Media]:
    """Return a file's bytes and what they are."""
    text, path = place.file.data, place.path
    if not is_url(text):
        data = decode_data(text, path=path, max_bytes=settings.max_file_bytes)
        return data, identify(data, name=place.file.name, path=path, max_pixels=settings.max_pixels)
    fault = fetched.faults.get(text)
    if fault is not None:
        raise refuse(f"{path}: {shown_url(text)} {fault.reason}", code=fault.code, path=path, hint=fault.hint)
    data = fetched.data[text]
    media = identify(
        data,
        name=file_name(place.file.name),
        path=f"{path} (from {shown_url(text)})",
        max_pixels=settings.max_pixels,
        quotes_text=False,  # Such a text may repeat the URL, with its secrets.
    )
    if place.takes and media.kind not in place.takes:
        raise refuse(
            f"{path} (from {shown_url(text)}) is {media.kind} ({media.extension}), where the node loads "
            f"{' or '.join(place.takes)}",
            code="wrong_media",
            path=path,
        )
    return data, media


def _named_twice(name: str, path: str) -> InvalidRequest:
    return refuse(
        f"{path}: '{shown_name(name)}' names two different files",
        code="name_used_twice",
        path=path,
        received=shown_name(name),
        hint="Give each file a name of its own, and use that name in the workflow.",
    )
