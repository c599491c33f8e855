"""Prepare, with files that are URLs on a real server: checked like all others, and named by what the workflow says."""

import base64
import io
from collections.abc import AsyncIterator, Iterator

import pytest
import stamina
import structlog
from blake3 import blake3
from PIL import Image

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.inputs.prepare import prepare_files
from comfyworker.jobs import ArtifactKind, Graph, InputFile
from comfyworker.settings import InputSettings
from comfyworker.workflow import NodeClasses, UrlInput, find_url_inputs, rename_files
from support.file_server import FileServer

OPEN = InputSettings(allow_private_urls=True, max_file_bytes=1_000_000, max_pixels=1_000_000)
SECRET = "?X-Amz-Signature=5ecre7"
MP4 = b"\0\0\0\x18ftypmp42" + bytes(32)
CLASSES = NodeClasses(
    {
        "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
        "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {"multiline": True}]}}},
    }
)


def png(colour: str, size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a small picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def load_image(*values: str) -> Graph:
    """Return a graph with a LoadImage for each value."""
    return {str(index): {"class_type": "LoadImage", "inputs": {"image": value}} for index, value in enumerate(values)}


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Try again at once."""
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Return a running server with files of several sorts."""
    async with FileServer() as server:
        server.files |= {
            "/red.png": (png("red"), "image/png"),
            "/page": (b"<!DOCTYPE html><title>Log in</title>", "text/html"),
            "/echo": (f"you asked for {SECRET}".encode(), "text/plain"),
            "/clip": (MP4, "video/mp4"),
            "/clip.png": (MP4, "image/png"),
            "/wide.png": (png("red", (2000, 501)), "image/png"),
            "/cut.png": (png("red")[:-10], "image/png"),
        }
        yield server


async def refused(
    files: list[InputFile], settings: InputSettings = OPEN, url_inputs: tuple[UrlInput, ...] = ()
) -> InvalidRequest:
    """Return the error that these files lead to."""
    with pytest.raises(InvalidRequest) as caught:
        await prepare_files(files, settings, url_inputs=url_inputs)
    return caught.value


async def test_a_file_may_be_a_url(server: FileServer) -> None:
    """Its bytes are those that lie there; the name is the one that the request gives."""
    (file,) = await prepare_files([InputFile(name="a.png", data=server.url(f"/red.png{SECRET}"))], OPEN)
    assert (file.name, file.data, file.kind) == ("a.png", png("red"), ArtifactKind.IMAGE)
    assert file.stored_name == f"{blake3(png('red')).hexdigest()}.png"


async def test_equal_files_have_one_stored_name(server: FileServer) -> None:
    """By two URLs or as base64: equal bytes are stored once."""
    files = await prepare_files(
        [
            InputFile(name="a.png", data=server.url("/red.png?1")),
            InputFile(name="b.png", data=server.url("/red.png?2")),
            InputFile(name="c.png", data=base64.b64encode(png("red")).decode()),
        ],
        OPEN,
    )
    assert (len(files), len({file.stored_name for file in files})) == (3, 1)


async def test_a_url_in_a_node_becomes_the_stored_file(server: FileServer) -> None:
    """It is found, fetched once for two nodes, and replaced by the stored name; in a prompt it stays."""
    url = server.url(f"/red.png{SECRET}")
    graph = load_image(url, f"{url} [input]") | {"9": {"class_type": "CLIPTextEncode", "inputs": {"text": url}}}
    files = await prepare_files([], OPEN, url_inputs=find_url_inputs(graph, CLASSES))
    stored = {file.name: f"comfyworker/{file.stored_name}" for file in files}
    renamed, used = rename_files(graph, CLASSES, stored)
    assert [node["inputs"] for node in renamed.values()] == [
        {"image": stored[url]},
        {"image": f"{stored[url]} [input]"},
        {"text": url},
    ]
    assert (used, server.asked) == (frozenset({url}), {"/red.png": 1})


async def test_a_url_may_be_a_name(server: FileServer) -> None:
    """A file that is named by its own URL serves the nodes that hold this URL."""
    url = server.url(f"/red.png{SECRET}")
    (file,) = await prepare_files([InputFile(name=url, data=url)], OPEN)
    renamed, used = rename_files(load_image(url), CLASSES, {file.name: f"comfyworker/{file.stored_name}"})
    assert renamed["0"]["inputs"] == {"image": f"comfyworker/{blake3(png('red')).hexdigest()}.png"}
    assert used == frozenset({url})


async def test_a_file_sent_under_a_url_is_not_fetched(server: FileServer) -> None:
    """What the request brings for a URL in its workflow wins."""
    url = server.url("/red.png")
    sent = InputFile(name=url, data=base64.b64encode(png("blue")).decode())
    (file,) = await prepare_files([sent], OPEN, url_inputs=find_url_inputs(load_image(url), CLASSES))
    assert (file.data, server.asked) == (png("blue"), {})


async def test_all_problems_of_all_files_are_raised_once(server: FileServer) -> None:
    """Fetched or not, each file's problem has its place, and nothing of a query is in any of them."""
    files = [
        InputFile(name="../a.png", data=server.url(f"/status/404{SECRET}")),
        InputFile(name="b.png", data=server.url(f"/page{SECRET}")),
        InputFile(name="c.txt", data=server.url(f"/echo{SECRET}")),
        InputFile(name="d.png", data=server.url(f"/wide.png{SECRET}")),
        InputFile(name="e.png", data=server.url(f"/cut.png{SECRET}")),
        InputFile(name="f.png", data="no base64!"),
        InputFile(name=server.url(f"/clip.png{SECRET}"), data=server.url(f"/clip.png{SECRET}")),
        InputFile(name="g.png", data=f"https://a.de:x/{SECRET}"),
        InputFile(name="h.png", data="file:///etc/passwd"),
        InputFile(name="i.png", data=server.url(f"/red.png{SECRET}")),
    ]
    found = find_url_inputs(load_image(server.url(f"/clip{SECRET}")), CLASSES)
    with structlog.testing.capture_logs() as events:
        error = await refused(files, url_inputs=found)
    assert [(problem.path, problem.code) for problem in error.problems] == [
        ("images[0].name", "invalid_name"),
        ("images[0].image", "url_status"),
        ("images[1].image", "unknown_media"),
        ("images[2].image", "unknown_media"),
        ("images[3].image", "too_many_pixels"),
        ("images[4].image", "broken_picture"),
        ("images[5].image", "not_base64"),
        ("images[6].image", "not_a_picture"),
        ("images[7].image", "invalid_url"),
        ("images[8].image", "url_not_taken"),
        ("workflow.0.inputs.image", "wrong_media"),
    ]
    assert "5ecre7" not in f"{error!r} {error.to_dict()} {events}"


async def test_a_problem_names_the_host_and_the_place(server: FileServer) -> None:
    """The caller learns which of the files it is, who answered what, and what the node wanted."""
    here = f"http://127.0.0.1:{server.port}/…"
    graph = load_image(server.url(f"/page{SECRET}"), server.url(f"/status/403{SECRET}"), server.url("/clip"))
    error = await refused([], url_inputs=find_url_inputs(graph, CLASSES))
    messages = [
        f"workflow.0.inputs.image (from {here}) is an HTML page, which is not a picture or other file that is taken",
        f"workflow.1.inputs.image: {here} answered with status 403",
        f"workflow.2.inputs.image (from {here}) is video (mp4), where the node loads image",
    ]
    codes = ["unknown_media", "url_status", "wrong_media"]
    assert error.problems == tuple(
        Problem(message=text, code=code, path=f"workflow.{node}.inputs.image", node_id=str(node), input_name="image")
        for node, (text, code) in enumerate(zip(messages, codes, strict=True))
    )


async def test_refused_addresses_are_problems(server: FileServer) -> None:
    """Without ALLOW_PRIVATE_URLS this machine is not asked, and the answer says so."""
    error = await refused([InputFile(name="a.png", data=server.url(f"/red.png{SECRET}"))], InputSettings())
    assert error.message == (
        f"images[0].image: http://127.0.0.1:{server.port}/… leads to a loopback address, which is not fetched from"
    )
    assert server.asked == {}


async def test_two_files_of_one_url_name_are_told_apart_by_host(server: FileServer) -> None:
    """Also the problem of two different files under one name shows no query."""
    name = server.url(f"/red.png{SECRET}")
    error = await refused(
        [InputFile(name=name, data=name), InputFile(name=name, data=base64.b64encode(png("blue")).decode())]
    )
    assert [problem.received for problem in error.problems] == [f"http://127.0.0.1:{server.port}/…"]


async def test_data_uris_and_base64_ask_nobody(server: FileServer) -> None:
    """They stay what they were."""
    text = base64.b64encode(png("red")).decode()
    files = [InputFile(name="a.png", data=f"data:image/png;base64,{text}"), InputFile(name="b.png", data=text)]
    assert [file.data for file in await prepare_files(files, OPEN)] == [png("red")] * 2
    assert server.asked == {}
