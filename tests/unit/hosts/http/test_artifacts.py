"""Files that are sent: what the head of an answer has promised comes, whatever happens to the file meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from comfyworker.errors import NotFound
from comfyworker.hosts.http.artifacts import file_answer
from comfyworker.service import AssetRecord


def asset(path: Path) -> AssetRecord:
    """Return an asset whose file is `path`."""
    return AssetRecord(
        id="a", owner="", name="a.png", hash="", content_type="image/png", size_bytes=5, created_at=0.0, path=path
    )


async def sent(answer: Any, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Return the status and the body that an answer sends."""
    messages: list[Any] = []

    async def receive() -> Any:  # ASGI's
        await asyncio.Event().wait()  # The client stays.

    async def send(message: Any) -> None:  # ASGI's
        messages.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await answer({"type": "http", "method": method, "headers": pairs}, receive, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages[1:])


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [("GET", {}, (200, b"bytes")), ("HEAD", {}, (200, b"")), ("GET", {"range": "bytes=1-3"}, (206, b"yte"))],
)
async def test_a_file_that_expires_while_it_is_sent_comes_whole(
    tmp_path: Path, method: str, headers: dict[str, str], expected: tuple[int, bytes]
) -> None:
    """It is open before its length is told."""
    path = tmp_path / "a"
    path.write_bytes(b"bytes")
    answer = file_answer(asset(path))
    path.unlink()
    assert await sent(answer, method, **headers) == expected


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """Without its path."""
    with pytest.raises(NotFound) as caught:
        file_answer(asset(tmp_path / "a"))
    assert str(tmp_path) not in str(caught.value)
