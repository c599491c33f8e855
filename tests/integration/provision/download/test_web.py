"""Models of web servers: what comes, and what is made of servers that do not do as they should."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog

from comfyworker.errors import DownloadFailed
from support.downloads import MEBIBYTE, Fetcher
from support.model_server import LOGIN_PAGE, Model, ModelServer
from support.ports import free_port

A = "/files/a.safetensors"


@pytest.mark.parametrize("way", ["files", "signed"])
async def test_a_long_file_comes_in_ranges(fetch: Fetcher, server: ModelServer, model: Model, way: str) -> None:
    """Several connections fetch it at once, each byte once; the receipt says what is there."""
    model.rate = 8 * MEBIBYTE
    receipt = await fetch(f"/{way}/a.safetensors")
    path = fetch.folder / "a.safetensors"
    assert path.read_bytes() == model.body
    assert receipt.sha256 == model.sha256
    assert receipt.describes(path)
    assert (receipt.filename, receipt.etag) == ("a.safetensors", model.etag)
    assert 1 < server.most_open["a.safetensors"] <= fetch.settings.connections
    assert fetch.names() == ["a.safetensors"]
    assert all(asked.method == "GET" for asked in server.asked)


async def test_a_host_without_ranges(fetch: Fetcher, model: Model) -> None:
    """It is asked once for the whole file."""
    model.takes_ranges = False
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert receipt.fetched_bytes == len(model.body)


@pytest.mark.parametrize("takes_ranges", [True, False])
async def test_a_file_that_tells_no_length(fetch: Fetcher, model: Model, *, takes_ranges: bool) -> None:
    """A body in chunks ends where it says so; of one with ranges, the ranges tell the length."""
    model.has_length, model.takes_ranges = False, takes_ranges
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256


async def test_a_cut_connection(fetch: Fetcher, model: Model) -> None:
    """What came before the cut is not fetched again."""
    model.cuts = 3
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert model.cuts == 0
    assert receipt.fetched_bytes == len(model.body)


async def test_a_cut_connection_without_ranges(fetch: Fetcher, model: Model) -> None:
    """The file is begun anew, and the digest with it."""
    model.cuts, model.takes_ranges = 2, False
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert receipt.fetched_bytes > len(model.body)


async def test_a_host_that_always_cuts(fetch: Fetcher, model: Model) -> None:
    """After DOWNLOAD_ATTEMPTS it is an error that may pass, and nothing is left of a file without ranges."""
    model.cuts, model.takes_ranges = 100, False
    with pytest.raises(DownloadFailed, match="the connection failed") as caught:
        await fetch(A)
    assert caught.value.retryable
    assert 100 - model.cuts == fetch.settings.attempts
    assert fetch.names() == []


async def test_a_signed_url_that_expires(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """The host is asked anew where the file is, once for all connections, and what has come is kept."""
    # Of three stretches, one is left to be asked for when the others are under way.
    fetch.settings = fetch.settings.model_copy(update={"connections": 2})
    model.stalls_after = MEBIBYTE
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(fetch("/signed/a.safetensors"))
        await server.stalled.wait()
        server.expire()
        model.stalls_after = None
        server.released.set()
    receipt = fetching.result()
    assert receipt.sha256 == model.sha256
    assert len(server.asked_for("/signed/")) == 2
    assert receipt.fetched_bytes == len(model.body)


@pytest.mark.parametrize("status", [429, 503, 500, 408])
async def test_a_busy_host(fetch: Fetcher, model: Model, status: int) -> None:
    """It is asked again."""
    model.refusals = [(status, {"Retry-After": "0"})] * 3
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert model.refusals == []


async def test_a_host_that_takes_few_connections(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Connections that are told so twice end, and the others fetch what they were to fetch."""
    model.most_connections, model.rate = 1, 16 * MEBIBYTE
    receipt = await fetch(A)
    assert receipt.sha256 == model.sha256
    assert server.most_open["a.safetensors"] == 1


async def test_a_host_that_wants_us_to_wait_for_long(fetch: Fetcher, model: Model) -> None:
    """It is not waited for; the error says for how long, and that it may pass."""
    model.refusals = [(429, {"Retry-After": "7200"})] * 10
    with pytest.raises(DownloadFailed, match="for another 7200 s") as caught:
        await fetch(A)
    assert caught.value.retryable
    assert caught.value.details["reason"] == "busy"


async def test_a_file_that_changes(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """It is begun anew: no byte of the old one is in what is there at the end."""
    # More connections could have asked for all of the old file by then, and would have it whole.
    fetch.settings = fetch.settings.model_copy(update={"connections": 1})
    model.stalls_after = MEBIBYTE
    with structlog.testing.capture_logs() as events:
        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(fetch(A))
            await server.stalled.wait()
            model.body = bytes(len(model.body))
            model.stalls_after = None
            server.released.set()
    receipt = fetching.result()
    assert receipt.sha256 == model.sha256
    assert (fetch.folder / "a.safetensors").read_bytes() == model.body
    assert "provision.download_restarted" in {event["event"] for event in events}
    assert fetch.names() == ["a.safetensors"]


async def test_a_host_that_stops_taking_ranges(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """A whole file that comes instead of a range is not written where the range belongs."""
    fetch.settings = fetch.settings.model_copy(update={"connections": 1})
    model.stalls_after = MEBIBYTE
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(fetch(A))
        await server.stalled.wait()
        model.takes_ranges = False
        model.stalls_after = None
        server.released.set()
    assert fetching.result().sha256 == model.sha256


async def test_ranges_that_were_not_asked_for(fetch: Fetcher, model: Model) -> None:
    """They are refused, whatever is in them."""
    model.range_shift = 1
    with pytest.raises(DownloadFailed) as caught:
        await fetch(A)
    assert caught.value.details["reason"] == "broken_ranges"
    assert fetch.names() == []


@pytest.mark.parametrize("takes_ranges", [True, False])
async def test_a_wrong_length(fetch: Fetcher, model: Model, *, takes_ranges: bool) -> None:
    """A file that is shorter than its host says never gets its place."""
    model.told_length, model.takes_ranges = len(model.body) + 1000, takes_ranges
    fetch.settings = fetch.settings.model_copy(update={"read_timeout_s": 0.5})  # the connection stays open
    with pytest.raises(DownloadFailed):
        await fetch(A)
    assert "a.safetensors" not in fetch.names()


async def test_an_absurd_length(fetch: Fetcher, model: Model) -> None:
    """It is refused before anything is fetched."""
    model.told_length = 10**19
    with pytest.raises(DownloadFailed, match="which no model has"):
        await fetch(A)


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (401, "unauthorized", "Tokens are sent to"),
        (403, "forbidden", "still valid"),
        (404, "not_found", "Look at the URL"),
        (410, "not_found", "Look at the URL"),
    ],
)
async def test_refusals(fetch: Fetcher, server: ModelServer, model: Model, status: int, reason: str, told: str) -> None:
    """Each has its own error, at once, without another try."""
    if status == 401:
        model.token = "needed"
    elif status == 404:
        server.models.clear()
    else:
        model.takes_ranges = False
        model.refusals = [(status, {})] * 5
    with pytest.raises(DownloadFailed) as caught:
        await fetch(A)
    error = caught.value
    assert error.details == {"url": f"{server.url}{A}", "reason": reason, "status": status}
    assert told in (error.hint or "")
    assert not error.retryable


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (LOGIN_PAGE, "text/html"),
        (LOGIN_PAGE, "application/octet-stream"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "text/plain"),
    ],
)
async def test_pages_and_pointers(fetch: Fetcher, model: Model, body: bytes, kind: str) -> None:
    """What is no model is refused, by its type or by its first bytes."""
    model.body, model.content_type = body, kind
    with pytest.raises(DownloadFailed) as caught:
        await fetch(A)
    assert caught.value.details["reason"] == "not_a_model"
    assert fetch.names() == []


async def test_a_redirect_to_a_page(fetch: Fetcher) -> None:
    """Where a login page comes in the place of a model, it is said."""
    with pytest.raises(DownloadFailed, match="is a web page"):
        await fetch("/page-later/a.safetensors", filename="a.safetensors")


async def test_an_empty_file(fetch: Fetcher, model: Model) -> None:
    """It is no model."""
    model.body = b""
    with pytest.raises(DownloadFailed, match="is empty"):
        await fetch(A)


async def test_a_redirect_without_end(fetch: Fetcher) -> None:
    """It is followed ten times."""
    with pytest.raises(DownloadFailed, match="redirected more than 10 times"):
        await fetch("/loop", filename="a.safetensors")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="m.safetensors"', "m.safetensors"),
        ("attachment; filename*=UTF-8''%C3%A4%20b.gguf", "ä b.gguf"),
        ('attachment; filename="ä.gguf"', "ä.gguf"),
        ("inline", "a.safetensors"),
        (None, "a.safetensors"),
    ],
)
async def test_the_name_that_a_host_gives(fetch: Fetcher, model: Model, disposition: str | None, name: str) -> None:
    """It is the file's name; else the URL's last part is."""
    model.body, model.disposition = b"small", disposition
    assert (await fetch(A)).filename == name
    assert fetch.names() == [name]


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "..", ".hidden", "a\\b.gguf", "x" * 300])
async def test_names_that_lead_astray(fetch: Fetcher, model: Model, name: str) -> None:
    """They are refused; a name of the config's own makes the file welcome all the same."""
    model.body, model.disposition = b"small", f'attachment; filename="{name}"'
    with pytest.raises(DownloadFailed) as caught:
        await fetch(A)
    assert caught.value.details["reason"] == "unsafe_filename"
    assert not (fetch.folder.parent / "evil.safetensors").exists()
    assert fetch.names() == []


async def test_no_name_at_all(fetch: Fetcher, server: ModelServer) -> None:
    """Nothing is made up: the error asks for one."""
    server.add("123", Model(b"small"))
    with pytest.raises(DownloadFailed, match="gives the file no name") as caught:
        await fetch("/lone/123/")
    assert caught.value.hint == "Set `filename` of the model."
    assert (await fetch("/lone/123/", filename="b.gguf")).filename == "b.gguf"


async def test_what_was_wanted(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Size and hash of the config are held: the size before anything is fetched, the hash at the end."""
    assert (await fetch(A, sha256=model.sha256.upper(), size_bytes=len(model.body))).sha256 == model.sha256
    sent = server.sent["a.safetensors"]
    with pytest.raises(DownloadFailed, match="bytes, not 5") as wrong_size:
        await fetch(A, size_bytes=5, filename="b.safetensors")
    assert wrong_size.value.details["reason"] == "wrong_size"
    assert server.sent["a.safetensors"] - sent <= 1
    with pytest.raises(DownloadFailed, match="came with the SHA-256") as wrong_hash:
        await fetch(A, sha256="0" * 64, filename="b.safetensors")
    assert wrong_hash.value.details["reason"] == "wrong_hash"
    assert fetch.names() == ["a.safetensors"]


async def test_progress(fetch: Fetcher, model: Model) -> None:
    """It grows from nothing to the whole, and is not told for each byte."""
    model.rate = 8 * MEBIBYTE
    told: list[tuple[int, int | None]] = []
    await fetch(A, on_bytes=lambda done, total: told.append((done, total)))
    figures = [done for done, _ in told]
    assert figures == sorted(figures)
    assert (told[0], told[-1]) == ((0, len(model.body)), (len(model.body), len(model.body)))
    assert {total for _, total in told} == {len(model.body)}


async def test_probing(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """It says what there is, and fetches one byte."""
    async with fetch.downloader() as downloader:
        remote = await downloader.probe(fetch.download("/signed/a.safetensors"))
    assert remote.model_dump() == {
        "filename": "a.safetensors",
        "size_bytes": len(model.body),
        "etag": model.etag,
        "sha256": None,
        "takes_ranges": True,
    }
    assert server.sent["a.safetensors"] == 1
    assert fetch.names() == []


@contextlib.asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Serve the same bytes to everybody, then close the connection: no HTTP server would."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


async def test_a_body_that_ends_with_its_connection(fetch: Fetcher) -> None:
    """Nobody could tell whether it is whole, unless the config says what it must be."""
    async with raw_server(b"HTTP/1.0 200 OK\r\n\r\n" + b"weights") as url:
        with pytest.raises(DownloadFailed, match="does not say how long it is"):
            await fetch(f"{url}/b.gguf")
        assert (await fetch(f"{url}/b.gguf", size_bytes=7)).size_bytes == 7
        with pytest.raises(DownloadFailed, match="came with 7 bytes"):
            await fetch(f"{url}/b.gguf", size_bytes=9)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes x-y/z\r\n\r\nx",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 5-5/9\r\n\r\nx",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: file:///etc/passwd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ],
)
async def test_answers_that_are_none(fetch: Fetcher, answer: bytes) -> None:
    """Each is an error of ours, and nothing gets into the folder."""
    async with raw_server(answer) as url:
        with pytest.raises(DownloadFailed):
            await fetch(f"{url}/b.gguf")
    assert fetch.names() == []


async def test_nobody_there(fetch: Fetcher) -> None:
    """A host that is not there may be there later."""
    with pytest.raises(DownloadFailed, match="the connection failed") as caught:
        await fetch(f"http://127.0.0.1:{free_port()}/b.gguf")
    assert caught.value.retryable


async def test_a_host_that_falls_silent(fetch: Fetcher, model: Model) -> None:
    """DOWNLOAD_READ_TIMEOUT_S bounds the silence."""
    model.stalls_after = MEBIBYTE
    fetch.settings = fetch.settings.model_copy(update={"read_timeout_s": 0.2, "attempts": 1})
    with pytest.raises(DownloadFailed, match="stopped sending") as caught:
        await fetch(A)
    assert caught.value.hint == "DOWNLOAD_READ_TIMEOUT_S sets the limit."


async def test_guard(fetch: Fetcher, model: Model) -> None:
    """A URL that somebody else chose leads to public addresses only, and to no file of this machine."""
    fetch.is_guarded = True
    with pytest.raises(DownloadFailed, match="a loopback address"):
        await fetch(A)
    for url in ("/etc/passwd", "file:///etc/passwd", "s3://bucket/key.gguf"):
        async with fetch.downloader() as downloader:
            with pytest.raises(DownloadFailed):
                await downloader.fetch(fetch.download(A).model_copy(update={"url": url}))
    fetch.allow_private = True
    assert (await fetch("/signed/a.safetensors")).sha256 == model.sha256


async def test_nothing_secret_is_told(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Neither errors nor logs nor receipts hold the query, the password, or a signature of a URL."""
    model.cuts = 2
    url = f"http://user:PASSWORD@127.0.0.1:{server.port}/signed/a.safetensors?token=TOKEN&type=Model"
    with structlog.testing.capture_logs() as events:
        receipt = await fetch(url)
        server.models.clear()
        with pytest.raises(DownloadFailed) as caught:
            await fetch(url)
    shown = f"{events} {receipt} {caught.value.to_dict()}"
    assert not [secret for secret in ("PASSWORD", "TOKEN", "SECRET") if secret in shown]
    assert receipt.url == f"http://127.0.0.1:{server.port}/signed/a.safetensors?type=Model"
