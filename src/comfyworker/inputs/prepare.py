"""The files of a request, decoded and checked, before any of them touches a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field

from comfyworker.errors import InvalidRequest
from comfyworker.inputs._problems import combine, refuse
from comfyworker.inputs.decode import check_name, decode_data
from comfyworker.inputs.media import identify
from comfyworker.jobs import ArtifactKind, InputFile
from comfyworker.settings import InputSettings

_INLINE_CHARS = 256 * 1024
"""Up to this many characters of base64 the work takes less time than the way to a thread and back."""


class DecodedFile(BaseModel):
    """One input file, ready to be placed."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The name by which the workflow calls it."""
    data: bytes = Field(repr=False)
    kind: ArtifactKind
    extension: str
    """By the bytes, not by the name; without a dot."""
    digest: str
    """BLAKE3 of the bytes, in hex."""

    @property
    def stored_name(self) -> str:
        """The name under which ComfyUI gets it: equal bytes have equal names, and no part comes from the caller."""
        return f"{self.digest}.{self.extension}"


async def prepare_files(files: Sequence[InputFile], settings: InputSettings) -> tuple[DecodedFile, ...]:
    """Return the files of a request as checked bytes; a file that was sent twice is in it once.

    Large files are decoded in a thread, so that the event loop never waits for them.

    Raises:
        InvalidRequest: with *everything* that is wrong with the files: names, encoding, size, content, and two files
            of one name.
    """
    decoded: dict[str, DecodedFile] = {}
    faults: list[InvalidRequest] = []
    for index, file in enumerate(files):
        try:
            if len(file.data) > _INLINE_CHARS:
                prepared = await asyncio.to_thread(_prepare, file, index, settings)
            else:
                prepared = _prepare(file, index, settings)
            if decoded.setdefault(prepared.name, prepared).digest != prepared.digest:
                raise _named_twice(prepared.name, index)
        except InvalidRequest as error:
            faults.append(error)
    if faults:
        raise combine(faults)
    return tuple(decoded.values())


def _prepare(file: InputFile, index: int, settings: InputSettings) -> DecodedFile:
    path = f"images[{index}].image"
    faults: list[InvalidRequest] = []
    try:
        check_name(file.name, path=f"images[{index}].name")
    except InvalidRequest as error:
        faults.append(error)
    try:
        data = decode_data(file.data, path=path, max_bytes=settings.max_file_bytes)
        media = identify(data, name=file.name, path=path, max_pixels=settings.max_pixels)
    except InvalidRequest as error:
        raise combine([*faults, error]) from error
    if faults:
        raise combine(faults)
    return DecodedFile(
        name=file.name,
        data=data,
        kind=media.kind,
        extension=media.extension,
        digest=blake3(data).hexdigest(),
    )


def _named_twice(name: str, index: int) -> InvalidRequest:
    path = f"images[{index}].name"
    return refuse(
        f"{path}: '{name}' names two different files",
        code="name_used_twice",
        path=path,
        received=name,
        hint="Give each file a name of its own, and use that name in the workflow.",
    )
