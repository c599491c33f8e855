"""Forms: read as they come, in pieces of any size."""

from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from comfyworker.errors import AssetTooLarge, InvalidRequest
from comfyworker.hosts.http.comfy_v2.multipart import Upload, open_upload

BOUNDARY = "b"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(data: bytes, **fields: str) -> bytes:
    """Return a form with some fields and then a file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="own.bin"\r\n'.encode()
    kind = b"Content-Type: image/own\r\n\r\n"
    return b"".join(parts) + head + kind + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def request(body: bytes, *, piece: int = 1 << 16, content_type: str = TYPE, length: int | None = None) -> Request:
    """Return a request whose body comes in pieces."""
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    headers = [(b"content-type", content_type.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))

    async def receive() -> Message:
        chunk = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(pieces)}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


async def read(body: bytes, *, piece: int = 1 << 16, max_bytes: int = 1 << 20) -> tuple[Upload, bytes]:
    """Read a form; return what is told of the file, and its bytes."""
    upload = await open_upload(request(body, piece=piece), max_bytes=max_bytes)
    async with aclosing(upload.chunks) as chunks:
        return upload, b"".join([chunk async for chunk in chunks])


@given(data=st.binary(max_size=2000) | st.just(b"\r\n--b\r\n--\r\n--bb--\r\n"), piece=st.integers(1, 400))
async def test_the_file_comes_out_as_it_went_in(data: bytes, piece: int) -> None:
    """Whatever it holds, and wherever the pieces are cut."""
    if b"\r\n--b" in data:
        data = data.replace(b"\r\n--b", b"\r\n--c")
    upload, content = await read(form(data, file_path="a.png", expected_hash="h"), piece=piece)
    assert (content, upload.file_path, upload.content_type, upload.expected_hash) == (data, "a.png", "image/own", "h")


async def test_fields_go_before_the_files_own() -> None:
    """Name and type are those of the part where no field says them; an empty field says nothing."""
    upload, _ = await read(form(b"x"))
    assert (upload.file_path, upload.content_type, upload.expected_hash) == ("own.bin", "image/own", None)
    upload, _ = await read(form(b"x", content_type="image/png", expected_hash="", tags="a"))
    assert (upload.content_type, upload.expected_hash) == ("image/png", None)


@given(cut=st.integers(1, 120))
async def test_a_form_that_is_cut_off_is_refused(cut: int) -> None:
    """Wherever: half a file is never taken for a whole one."""
    whole = form(b"data", file_path="a.png").removesuffix(b"\r\n")
    with pytest.raises(InvalidRequest):
        await read(whole[:-cut])


@given(st.binary(max_size=300))
async def test_no_body_does_harm(body: bytes) -> None:
    """It is refused, if it is no form."""
    with pytest.raises(InvalidRequest):
        await read(b"--b\r\n" + body)


async def test_more_than_may_be_is_not_waited_for() -> None:
    """Who says how much is coming is refused at once."""
    with pytest.raises(AssetTooLarge):
        await open_upload(request(b"", length=1 << 20), max_bytes=1000)
