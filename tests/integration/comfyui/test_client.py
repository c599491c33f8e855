"""ComfyUI's HTTP API, on a real ComfyUI and through a proxy that breaks it: each answer, each translated error."""

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from comfyworker.comfyui.client import ComfyUIClient, NotConnected, OutcomeUnknown, QueueView, SubmissionRefused
from comfyworker.errors import ComfyUIUnreachable, InvalidRequest
from comfyworker.settings import ComfyUISettings
from support import workflows
from support.eventually import eventually
from support.pipelines import files_in
from support.ports import free_port
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI

SETTINGS = ComfyUISettings(read_timeout_s=10.0, connect_timeout_s=0.2)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session that the client may use."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(proxy: FaultProxy, session: aiohttp.ClientSession) -> ComfyUIClient:
    """Return a client of the real ComfyUI, with the proxy between."""
    return ComfyUIClient(proxy.url, session, SETTINGS)


async def submit(client: ComfyUIClient, graph: dict[str, dict[str, Any]]) -> str:
    """Submit a workflow under a new id; return the id."""
    prompt_id = str(uuid.uuid4())
    assert await client.submit(graph, prompt_id=prompt_id, client_id="test", extra_data={}) == {}
    return prompt_id


async def content(client: ComfyUIClient, filename: str, subfolder: str, folder_type: str) -> bytes:
    """Return all of a file that is streamed."""
    return b"".join([chunk async for chunk in client.view(filename, subfolder, folder_type)])


async def test_a_prompt_from_the_queue_to_the_history(client: ComfyUIClient, comfyui: RealComfyUI) -> None:
    """A submitted prompt is in the queue under our id, not in the history; when it has ended, the other way round."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    running = await submit(client, workflows.wait(until_file=gate))
    await eventually(client.queue)
    pending = await submit(client, workflows.colour((1, 2, 3)))

    async def view() -> bool:
        submitters = {running: "test", pending: "test"}
        return await client.queue() == QueueView(
            running=frozenset({running}), pending=frozenset({pending}), client_ids=submitters
        )

    await eventually(view)
    assert await client.history(running) is None
    await client.delete_pending(pending)
    gate.touch()
    entry = await eventually(lambda: client.history(running))
    entry = await eventually(lambda: client.history(running))
    assert entry is not None
    assert await client.queue() == QueueView(running=frozenset(), pending=frozenset())
    assert await client.history(pending) is None


async def test_an_interrupt_names_its_prompt(client: ComfyUIClient, comfyui: RealComfyUI) -> None:
    """Only the prompt that is named is interrupted."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    prompt_id = await submit(client, workflows.wait(until_file=gate))

    async def is_running() -> bool:
        return prompt_id in (await client.queue()).running

    await eventually(is_running)
    await client.interrupt(str(uuid.uuid4()))
    assert await is_running()
    await client.interrupt(prompt_id)
    entry = await eventually(lambda: client.history(prompt_id))
    assert entry is not None
    assert [name for name, _ in entry["status"]["messages"]][-1] == "execution_interrupted"


async def test_a_refused_workflow(client: ComfyUIClient) -> None:
    """ComfyUI's reasons come along when it refuses a workflow."""
    graph = {"1": workflows.node("SaveImage", images=["7", 0], filename_prefix="x")}
    with pytest.raises(SubmissionRefused) as caught:
        await client.submit(graph, prompt_id=str(uuid.uuid4()), client_id="test", extra_data={})
    assert isinstance(caught.value.body, dict)
    assert sorted(caught.value.body) == ["error", "node_errors"]


async def test_what_no_json_holds_is_refused(client: ComfyUIClient) -> None:
    """A number that our writer of JSON does not take, or a value of too many levels, is the client's fault."""
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    for value in (10**30, deep):
        graph = {"1": workflows.node("EmptyImage", width=8, height=8, batch_size=1, color=0, more=value)}
        with pytest.raises(InvalidRequest, match="nested too deeply, or a whole number"):
            await client.submit(graph, prompt_id=str(uuid.uuid4()), client_id="test", extra_data={})


async def test_a_large_workflow(client: ComfyUIClient) -> None:
    """A workflow of several MB, as one with pictures in its texts is, is submitted like any other."""
    graph = workflows.outputs({"text": ["x" * 3_000_000]})
    prompt_id = await submit(client, graph)
    await eventually(lambda: client.history(prompt_id))


async def test_an_upload(client: ComfyUIClient, comfyui: RealComfyUI) -> None:
    """A file is put where we say, an equal one is left alone, and one that differs is replaced under its name."""
    subfolder, data = workflows.unique_prefix(), bytes(range(256)) * 8000
    for sent in (data, data, b"other"):
        await client.upload("a.bin", subfolder, sent)
        assert await content(client, "a.bin", subfolder, "input") == sent
    assert (comfyui.input_dir / subfolder / "a.bin").read_bytes() == b"other"


async def test_node_classes(client: ComfyUIClient) -> None:
    """All classes, one of them, and nothing for one that is not there."""
    everything = await client.object_info()
    assert await client.object_info("SaveImage") == {"SaveImage": everything["SaveImage"]}
    assert await client.object_info("NoSuchClass") == {}


@pytest.mark.parametrize("class_type", ["Text/Concat", "Any?", "50%20", "#1", "../queue", "..", ".", "", "é 🖼", "a\\b"])
async def test_a_class_of_an_odd_name(client: ComfyUIClient, class_type: str) -> None:
    """A class name from a request is never a path: an odd one is a class that is not there."""
    assert await client.object_info(class_type) == {}


async def test_system_stats(client: ComfyUIClient) -> None:
    """Versions and devices are there."""
    assert sorted(await client.system_stats()) == ["devices", "system"]


@pytest.mark.parametrize(("subfolder", "name"), [("", "a b.txt"), ("in/side", "ü&?#+%20.txt"), ("", "empty")])
async def test_a_view_of_odd_names(client: ComfyUIClient, comfyui: RealComfyUI, subfolder: str, name: str) -> None:
    """Files of any name, in subfolders, empty ones too, are streamed whole."""
    folder = workflows.unique_prefix()
    path = comfyui.output_dir / folder / subfolder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"" if name == "empty" else name.encode())
    seen = await content(client, name, f"{folder}/{subfolder}".rstrip("/"), "output")
    assert seen == path.read_bytes()
    path.unlink()
    assert folder not in " ".join(files_in(comfyui.output_dir))


async def test_a_view_of_a_file_that_is_not_there(client: ComfyUIClient) -> None:
    """A file that is not there is told apart from a ComfyUI that is not there."""
    with pytest.raises(FileNotFoundError):
        await content(client, "nothing.png", "", "output")


@pytest.mark.parametrize(("name", "subfolder"), [("two..dots.png", ""), ("a.png", "../..")])
async def test_a_view_that_comfyui_refuses(client: ComfyUIClient, name: str, subfolder: str) -> None:
    """A name that ComfyUI does not serve is a fault of the file, not of the connection."""
    with pytest.raises(PermissionError):
        await content(client, name, subfolder, "output")


Call = Callable[[ComfyUIClient], Coroutine[Any, Any, object]]
CALLS: list[tuple[str, str, Call]] = [
    ("GET", "/queue", lambda client: client.queue()),
    ("GET", "/history/p", lambda client: client.history("p")),
    ("POST", "/queue", lambda client: client.delete_pending("p")),
    ("POST", "/interrupt", lambda client: client.interrupt("p")),
    ("GET", "/object_info", lambda client: client.object_info()),
    ("GET", "/system_stats", lambda client: client.system_stats()),
    ("GET", "/view", lambda client: content(client, "a.png", "", "output")),
    ("POST", "/upload/image", lambda client: client.upload("a.bin", "x", b"1")),
    ("POST", "/prompt", lambda client: client.submit({}, prompt_id="p", client_id="c", extra_data={})),
]
each_call = pytest.mark.parametrize(("method", "path", "call"), CALLS, ids=[f"{one[0]} {one[1]}" for one in CALLS])


async def test_a_workflow_that_is_too_large(client: ComfyUIClient, proxy: FaultProxy) -> None:
    """What ComfyUI's limit on bodies refuses is a fault of the request, which would not go better later."""
    proxy.answer("POST", "/prompt", status=413)
    with pytest.raises(InvalidRequest, match="larger than ComfyUI takes"):
        await client.submit({}, prompt_id="p", client_id="c", extra_data={})


@each_call
async def test_http_500(client: ComfyUIClient, proxy: FaultProxy, method: str, path: str, call: Call) -> None:
    """An HTTP error names route and status, and is no broken connection."""
    proxy.answer(method, path, status=500, body="broken")
    with pytest.raises(ComfyUIUnreachable) as caught:
        await call(client)
    assert (type(caught.value), caught.value.message, caught.value.details) == (
        ComfyUIUnreachable,
        f"ComfyUI answered {method} {path} with HTTP 500",
        {"status": 500},
    )


@each_call
async def test_a_broken_connection(
    client: ComfyUIClient, proxy: FaultProxy, method: str, path: str, call: Call
) -> None:
    """A connection that breaks before the answer leaves a submission's outcome open, and only a submission's."""
    proxy.drop_request(method, path, times=2)  # aiohttp itself asks a second time where that is harmless
    with pytest.raises(ComfyUIUnreachable) as caught:
        await call(client)
    expected = OutcomeUnknown if path == "/prompt" else ComfyUIUnreachable
    assert (type(caught.value), caught.value.retryable) == (expected, True)


@each_call
async def test_nobody_listens(session: aiohttp.ClientSession, method: str, path: str, call: Call) -> None:
    """Where nobody accepts a connection, certainly nothing has arrived, and whoever asks is told so."""
    refusals: list[str] = []
    url = f"http://127.0.0.1:{free_port()}"
    client = ComfyUIClient(url, session, SETTINGS, on_refused=lambda: refusals.append("refused"))
    with pytest.raises(NotConnected) as caught:
        await call(client)
    assert caught.value.message == f"ComfyUI does not accept connections ({method} {path})"
    assert refusals == ["refused"]


async def test_a_machine_that_does_not_answer(session: aiohttp.ClientSession) -> None:
    """A connection that never stands counts as not connected: a submission did not arrive."""
    # 192.0.2.0/24 (RFC 5737) belongs to nobody: packets vanish, or the system says at once that no way leads there.
    client = ComfyUIClient("http://192.0.2.1:8188", session, SETTINGS)
    with pytest.raises(NotConnected):
        await client.submit({}, prompt_id="p", client_id="c", extra_data={})


async def test_an_answer_that_is_not_json(client: ComfyUIClient, proxy: FaultProxy) -> None:
    """A login page in ComfyUI's place is recognised, and the hint says where to look."""
    proxy.answer("GET", "/queue", status=200, body="<html>log in</html>")
    with pytest.raises(ComfyUIUnreachable, match="something that is not JSON") as caught:
        await client.queue()
    assert "COMFY_API_URL" in (caught.value.hint or "")


async def test_an_answer_that_is_no_object(client: ComfyUIClient, proxy: FaultProxy) -> None:
    """JSON of another shape than ComfyUI's is told as such."""
    proxy.answer("GET", "/queue", status=200, body="[1]")
    with pytest.raises(ComfyUIUnreachable, match="with list, not with an object"):
        await client.queue()


async def test_infinity_in_an_answer(client: ComfyUIClient, proxy: FaultProxy) -> None:
    """ComfyUI writes Infinity, which is not JSON, for the bounds of some nodes."""
    proxy.answer("GET", "/object_info", status=200, body='{"A": {"max": Infinity}}')
    assert await client.object_info() == {"A": {"max": float("inf")}}


async def test_a_stream_that_breaks(client: ComfyUIClient, proxy: FaultProxy, comfyui: RealComfyUI) -> None:
    """A file that breaks off in the middle is an error, never a shorter file."""
    path = comfyui.output_dir / f"{workflows.unique_prefix()}.bin"
    path.write_bytes(bytes(1_000_000))
    proxy.drop_answer("GET", "/view", after_bytes=1000)
    with pytest.raises(ComfyUIUnreachable, match="the connection to ComfyUI broke"):
        await content(client, path.name, "", "output")
    path.unlink()
