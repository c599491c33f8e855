"""An upload as a form (`multipart/form-data`), read as it comes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from comfyworker.errors import AssetTooLarge, InvalidRequest, Problem
from comfyworker.hosts.http.limits import iter_body

HASH = "^blake3:[0-9a-fA-F]{64}$"
MEDIA_TYPE = r"^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; ?[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)*$"
FILE = "file"
UNNAMED = "asset"
"""What a file is called of which nobody says."""
_FIELDS_BYTES = 64 * 1024
"""What a form may have beside its file."""
_MAX_NAME_CHARS = 1024
_MEDIA_TYPE = re.compile(MEDIA_TYPE)


class _PartHead(NamedTuple):
    name: str
    filename: str | None
    content_type: str | None

    @property
    def is_file(self) -> bool:
        return self.name == FILE


class _PartEnd:
    """Marks the end of a part."""


_Piece = _PartHead | bytes | _PartEnd


class Told(NamedTuple):
    """What a form says of its file."""

    file_path: str
    """What the client calls it."""
    content_type: str | None
    expected_hash: str | None


class Upload:
    """A file that is on its way in; what stands behind it in the form is known when `chunks` has ended."""

    def __init__(self, head: _PartHead, fields: dict[str, str], pieces: AsyncGenerator[_Piece, None]) -> None:
        """Go on reading `pieces` behind `head`; `fields` stood before it."""
        self._head = head
        self._fields = fields
        self.chunks = self._read(pieces)
        """The file's bytes; raises InvalidRequest where the form turns out wrong behind them."""

    def told(self) -> Told:
        """Return what the form has said of the file so far.

        Raises:
            InvalidRequest: the name is none, or the media type.
        """
        fields, head = self._fields, self._head
        content_type = fields.get("content_type") or head.content_type or None
        if content_type is not None and _MEDIA_TYPE.match(content_type) is None:
            raise _refused("content_type", "must be a media type, as image/png", "invalid_value")
        file_path = check_file_path(fields.get("file_path") or head.filename or UNNAMED)
        return Told(file_path, content_type, fields.get("expected_hash") or None)

    async def _read(self, pieces: AsyncGenerator[_Piece, None]) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, _PartEnd):
                    break
                if isinstance(piece, bytes):
                    yield piece
            second = await _read_fields(pieces, self._fields)
            if second is not None:
                raise _refused(FILE, "must be there only once", "two_files")


async def open_upload(request: Request, *, max_bytes: int) -> Upload:
    """Return the file that a request uploads, as soon as it begins.

    Args:
        request: Its body is a form with `file`, and `file_path`, `content_type` and `expected_hash` around it.
        max_bytes: The largest file that is taken; whoever reads `chunks` counts them.

    Raises:
        InvalidRequest: the body is no form, or has no file.
        AssetTooLarge: the client says that it is going to send more.
    """
    limit_bytes = max_bytes + _FIELDS_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise AssetTooLarge(
            f"the file is larger than the {max_bytes} bytes that an asset may have",
            hint="Send a smaller file. ASSET_MAX_BYTES of the worker is the limit.",
            details={"limit_bytes": max_bytes},
        )
    pieces = _read_form(iter_body(request, limit_bytes=limit_bytes), _boundary(request))
    fields: dict[str, str] = {}
    head = await _read_fields(pieces, fields)
    if head is None:
        raise _refused(FILE, "is missing", "missing_file")
    return Upload(head, fields, pieces)


def check_file_path(name: str) -> str:
    """Return what a client calls its file; it is a label, and names no file of ours.

    Raises:
        InvalidRequest: it is no name.
    """
    if not name or len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise _refused("file_path", "must be the file's name, on one line", "invalid_name")
    return name


async def _read_fields(pieces: AsyncGenerator[_Piece, None], fields: dict[str, str]) -> _PartHead | None:
    """Read up to a file, into `fields`; return what is told at its beginning, None if there is none."""
    name, content, size_bytes = "", b"", 0
    async for piece in pieces:
        if isinstance(piece, _PartHead):
            if piece.is_file:
                return piece
            name, content = piece.name, b""
        elif isinstance(piece, bytes):
            size_bytes += len(piece)
            if size_bytes > _FIELDS_BYTES:
                raise _refused(name, "and what else stands beside the file is too long", "field_too_long")
            content += piece
        else:
            fields[name] = _text(content, name)
    return None


async def _read_form(body: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[_Piece, None]:
    form = _Form(boundary)
    async for chunk in body:
        for piece in form.feed(chunk):
            yield piece
    form.check_complete()


class _Form:
    """The parser's callbacks gathered into pieces."""

    def __init__(self, boundary: bytes) -> None:
        self._pieces: list[_Piece] = []
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[str, bytes] = {}
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[_Piece]:
        """Return what a piece of the body holds.

        Raises:
            InvalidRequest: it is no form.
        """
        self._pieces = []
        with _translated():
            self._parser.write(chunk)
        return self._pieces

    def check_complete(self) -> None:
        """Look whether the form has ended.

        Raises:
            InvalidRequest: something is missing.
        """
        if not self._is_complete:
            raise _no_form("it ends before its last boundary")

    def _begin_part(self) -> None:
        self._headers = {}

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise _no_form("a part of it has no name")
        content_type = self._headers.get("content-type", b"").decode("latin-1")
        head = _PartHead(
            name=_text(name, "a part's name"),
            filename=None if filename is None else _text(filename, "the file's name"),
            content_type=content_type.strip() or None,
        )
        self._pieces.append(head)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end_part(self) -> None:
        self._pieces.append(_PartEnd())

    def _end(self) -> None:
        self._is_complete = True


def _boundary(request: Request) -> bytes:
    with _translated():
        kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _no_form("its Content-Type must be multipart/form-data, with a boundary")
    return boundary


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FormParserError, ValueError) as error:
        raise _no_form(str(error).partition("\n")[0]) from error


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _refused(name, "is no UTF-8 text", "not_text") from error


def _no_form(reason: str) -> InvalidRequest:
    message = f"the request's body is no form: {reason}"
    return InvalidRequest(
        message,
        hint="Send multipart/form-data with file_path and file.",
        problems=[Problem(message=message, code="not_a_form")],
    )


def _refused(name: str, what: str, code: str) -> InvalidRequest:
    message = f"{name[:40]} {what}"
    return InvalidRequest(
        message,
        hint="Send the fields file_path, content_type? and expected_hash?, and file.",
        problems=[Problem(message=message, code=code, path=name[:40])],
    )
