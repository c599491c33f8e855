"""Forms: read as they come, in pieces of any size."""

from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from comfyworker.errors import AssetTooLarge, InvalidRequest
from comfyworker.hosts.http.comfy_v2.multipart import Told, open_upload

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


async def read(body: bytes, *, piece: int = 1 << 16) -> tuple[Told, bytes, Told]:
    """Read a form; return what is told of the file before its bytes, these, and what is told behind them."""
    upload = await open_upload(request(body, piece=piece), max_bytes=1 << 20)
    before = upload.told()
    async with aclosing(upload.chunks) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    return before, content, upload.told()


@given(data=st.binary(max_size=2000) | st.just(b"\r\n--b\r\n--\r\n--bb--\r\n"), piece=st.integers(1, 400))
async def test_the_file_comes_out_as_it_went_in(data: bytes, piece: int) -> None:
    """Whatever it holds, and wherever the pieces are cut."""
    if b"\r\n--b" in data:
        data = data.replace(b"\r\n--b", b"\r\n--c")
    told, content, behind = await read(form(data, file_path="a.png", expected_hash="h"), piece=piece)
    assert (told, content, behind) == (Told("a.png", "image/own", "h"), data, told)


async def test_fields_go_before_the_files_own() -> None:
    """Name and type are those of the part where no field says them; an empty field says nothing."""
    assert (await read(form(b"x")))[0] == Told("own.bin", "image/own", None)
    told, _, _ = await read(form(b"x", content_type="image/png", expected_hash="", tags="a"))
    assert told == Told("own.bin", "image/png", None)


async def test_fields_may_stand_behind_the_file() -> None:
    """Then they are known when its bytes are."""
    behind = b'--b\r\nContent-Disposition: form-data; name="file_path"\r\n\r\nlate.png\r\n--b--\r\n'
    before, content, after = await read(form(b"x").removesuffix(b"--b--\r\n") + behind)
    assert (before.file_path, content, after.file_path) == ("own.bin", b"x", "late.png")


async def test_a_second_file_is_refused() -> None:
    """An upload is one file."""
    with pytest.raises(InvalidRequest, match="only once"):
        await read(form(b"x").removesuffix(b"--b--\r\n") + form(b"y"))


@pytest.mark.parametrize("content_type", ["0", "image", "image/png\tx", "a b/c", "image/png;"])
async def test_what_is_no_media_type_is_refused(content_type: str) -> None:
    """It would come back as a header."""
    with pytest.raises(InvalidRequest, match="content_type must be a media type"):
        await read(form(b"x", content_type=content_type))


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
