"""Comfy API v2's own client library, unchanged, with our server as the deployment."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from blake3 import blake3
from PIL import Image

from support import workflows
from support.comfy_sdk import MODES, calls, returned, sent, step
from support.eventually import eventually
from support.pictures import encoded
from support.proxy import FaultProxy, Recorded
from support.real_comfyui import Install, RealComfyUI
from support.serving import Serving, ready, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    _shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Serving]:
    """Start a server that anybody may ask."""
    async with serving(
        _shared_comfyui.url,
        tmp_path_factory.mktemp("server") / "state",
        environ={"COMFYUI_BASE_DIR": str(_shared_comfyui.base_dir)},
    ) as server:
        await ready(server)
        yield server


def png(rgb: tuple[int, int, int]) -> bytes:
    """Return a picture of one colour."""
    return encoded(Image.new("RGB", (16, 16), rgb), "PNG")


def path_of(request: Recorded) -> str:
    """Return the path that was asked for."""
    return request.path


def pixel(data: str) -> object:
    """Return the first pixel of a picture that is base64."""
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((0, 0))


@pytest.mark.parametrize("mode", MODES)
async def test_a_job_from_submission_to_its_files(own_server: Serving, tmp_path: Path, mode: str) -> None:
    """`run` polls to the end; outputs are read whole, in part, into a file, and have a URL; the graph comes back."""
    graph, saved = workflows.colour((11, 22, 33), batch_size=2), tmp_path / "saved.png"
    job_id, outputs, part, _, url, workflow, listed, error = await returned(
        own_server.url,
        mode,
        [
            step("run", graph=graph),
            step("outputs"),
            step("slice", first=1, last=3),
            step("save", path=str(saved)),
            step("download_url"),
            step("graph"),
            step("list_jobs"),
            step("error"),
        ],
        home=tmp_path,
    )
    assert [(out["node_id"], out["type"], out["content_type"], out["job_id"]) for out in outputs] == [
        (workflows.SAVE, "image", "image/png", job_id)
    ] * 2
    assert [pixel(out["data"]) for out in outputs] == [(11, 22, 33)] * 2
    assert [out["size_bytes"] for out in outputs] == [len(base64.b64decode(out["data"])) for out in outputs]
    assert (base64.b64decode(part), saved.read_bytes()) == (b"PNG", base64.b64decode(outputs[0]["data"]))
    assert url == f"{own_server.url}/api/v2/assets/{outputs[0]['id']}/content"
    assert (workflow, listed, error) == ([graph, "api"], [[job_id, "succeeded", {}, True]], None)


@pytest.mark.parametrize("mode", MODES)
async def test_an_upload_goes_into_the_workflow(own_server: Serving, tmp_path: Path, mode: str) -> None:
    """An asset that stands in the place of a file's name is what the node loads; equal bytes are sent once."""
    red, blue = png((255, 0, 0)), tmp_path / "blue.png"
    blue.write_bytes(png((0, 0, 255)))
    graph = workflows.invert()
    steps = [
        sent("red", red, "photo.png"),
        sent("again", red, "other name.png"),
        step("asset_of_file", name="blue", path=str(blue)),
        step("run", graph=graph, assets={"1.image": "red"}),
        step("outputs"),
        step("run", graph=graph, assets={"1.image": "blue"}),
        step("outputs"),
        step("graph"),
        step("commit", name="red"),
        step("commit", name="again"),
        step("asset_url", name="red"),
    ]
    answers = await returned(own_server.url, mode, steps, home=tmp_path)
    first, second, workflow, uploaded, again, url = (answers[index] for index in (4, 6, 7, 8, 9, 10))
    assert (pixel(first[0]["data"]), pixel(second[0]["data"])) == ((0, 255, 255), (255, 255, 0))
    assert workflow[0]["1"]["inputs"]["image"]["__type"] == "core/ASSET"
    digest = f"blake3:{blake3(red).hexdigest()}"
    assert (uploaded["hash"], uploaded["created_new"], again["hash"], again["created_new"]) == (
        digest, True, digest, False,
    )  # fmt: skip
    assert (uploaded["id"] != again["id"], again["file_path"]) == (True, "other name.png")
    assert url == f"{own_server.url}/api/v2/assets/{uploaded['id']}/content"


@pytest.mark.parametrize("mode", MODES)
async def test_assets_are_asked_for_and_deleted(server: Serving, tmp_path: Path, mode: str) -> None:
    """A job's output is an asset too, by its hash as well; what was deleted is gone, for workflows too."""
    data = bytes(range(256)) * 20_000
    run, uploaded, outputs = await returned(
        server.url,
        mode,
        [step("run", graph=workflows.noise()), sent("data", data, "data.bin"), step("outputs")],
        home=tmp_path,
    )
    del uploaded
    made = base64.b64decode(outputs[0]["data"])
    answers = await calls(
        server.url,
        mode,
        [
            step("get_asset", asset_id=outputs[0]["id"]),
            sent("made", made, "made.png"),
            step("commit", name="made"),
            sent("data", data, "data.bin"),
            step("commit", name="data"),
        ],
        home=tmp_path,
    )
    output, made_again, fresh = (answers[index]["returned"] for index in (0, 2, 4))
    assert (output["job_id"], output["hash"]) == (run, f"blake3:{blake3(made).hexdigest()}")
    assert (made_again["created_new"], fresh["created_new"]) == (False, True)
    reference = {"__type": "core/ASSET", "info": {"id": fresh["id"]}}
    deleted, gone, missing = await calls(
        server.url,
        mode,
        [
            step("delete_asset", asset_id=fresh["id"]),
            step("get_asset", asset_id=fresh["id"]),
            step("submit", graph={**workflows.invert(), "1": workflows.node("LoadImage", image=reference)}),
        ],
        home=tmp_path,
    )
    assert (deleted["returned"], gone["raised"]["class"], missing["raised"]["class"]) == (
        None, "NotFound", "MissingAsset",
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
async def test_events_tell_the_whole_job(own_server: Serving, tmp_path: Path, mode: str) -> None:
    """Status, progress that never falls, and each output, up to the end; the labels are on the job."""
    graph = workflows.wait(steps=3, rgb=(1, 2, 3))
    _, events, labels, status, outputs, found = await returned(
        own_server.url,
        mode,
        [
            step("submit", graph=graph, metadata={"client": "acme", "run": "7"}),
            step("events"),
            step("labels"),
            step("refresh"),
            step("outputs"),
            step("list_jobs", metadata={"client": "acme"}),
        ],
        home=tmp_path,
    )
    statuses = [event["status"] for event in events if event["event"] == "StatusChange"]
    assert (statuses, events[-1]["event"]) == (["queued", "running", "succeeded"], "StatusChange")
    values = [event["value"] for event in events if event["event"] == "Progress"]
    assert (values, values[-1]) == (sorted(values), 1.0)
    # Which of them a reader sees depends on how fast it reads: what is superseded is not told.
    assert {event["current_node"] for event in events if event["event"] == "Progress"} <= {*graph, None}
    ready = [event for event in events if event["event"] == "OutputReady"]
    assert [event["id"] for event in ready] == [output["id"] for output in outputs]
    assert (labels, status) == ({"client": "acme", "run": "7"}, "succeeded")
    assert [job[2] for job in found] == [labels]


@pytest.mark.parametrize("mode", MODES)
async def test_a_running_job_is_canceled(server: Serving, tmp_path: Path, mode: str) -> None:
    """It goes by way of canceling, and leaves ComfyUI; a job that has ended stays as it is."""
    graph = workflows.wait(until_file=tmp_path / "never")
    answers = await calls(
        server.url,
        mode,
        [
            step("submit", graph=graph),
            step("until", status="running"),
            step("cancel"),
            step("wait"),
            step("cancel"),
            step("result"),
        ],
        home=tmp_path,
    )
    canceling, ended, again = (answers[index]["returned"] for index in (2, 3, 4))
    assert (canceling in {"canceling", "canceled"}, ended, again) == (True, "canceled", "canceled")
    failed = answers[5]["raised"]
    assert (failed["class"], failed["error"]["code"]) == ("JobFailed", "job_canceled")


@pytest.mark.parametrize("mode", MODES)
async def test_errors_are_those_that_the_library_knows(own_server: Serving, tmp_path: Path, mode: str) -> None:
    """What ComfyUI would refuse is refused on submission; a node that fails fails its job, and is named."""
    good, unknown = workflows.noise(), {"1": workflows.node("NoSuchClass")}
    key = "the-same-key"
    steps = [
        step("submit", graph=unknown),
        step("submit", graph={"9": workflows.save("8")}),
        step("submit", graph=good, metadata={f"label-{index}": "x" for index in range(17)}),
        step("rehydrate", job_id="nobody"),
        step("get_asset", asset_id="nobody"),
        step("submit", graph=good, idempotency_key=key),
        step("submit", graph=good, idempotency_key=key),
        step("submit", graph=workflows.failing("ValueError", "by a test")),
        step("result"),
    ]
    answers = await calls(own_server.url, mode, steps, home=tmp_path)
    raised = [(answer["raised"]["class"], answer["raised"]["code"]) for answer in answers if "raised" in answer]
    assert raised == [
        ("InvalidWorkflow", "invalid_workflow"),
        ("InvalidWorkflow", "invalid_workflow"),
        ("ComfyError", "metadata_invalid"),
        ("NotFound", "not_found"),
        ("NotFound", "not_found"),
        ("IdempotencyKeyReuse", "idempotency_key_reuse"),
        ("JobFailed", "node_execution_error"),
    ]
    assert answers[0]["raised"]["details"]["reason"] == "missing_node"
    assert list(answers[1]["raised"]["details"]["node_errors"]) == ["9"]
    assert answers[6]["raised"]["details"]["job_id"] == answers[5]["returned"]
    error = answers[8]["raised"]["error"]
    assert (error["node_id"], error["class_type"], error["traceback"]) == ("2", "TestRaise", None)
    assert "by a test" in error["message"]


@pytest.mark.parametrize("mode", MODES)
async def test_outputs_of_every_kind(server: Serving, tmp_path: Path, mode: str) -> None:
    """Whatever a node reports is an output with its type; a text is one as well."""
    report = {
        "images": [{"filename": "a.png", "content": "1"}],
        "gifs": [{"filename": "b.mp4", "content": "22"}],
        "audio": [{"filename": "c.flac", "content": "333"}],
        "latents": [{"filename": "d.latent", "content": "4444"}],
        "files": [{"filename": "e.glb", "content": "55555"}],
        "text": ["grüße"],
    }
    _, outputs = await returned(
        server.url, mode, [step("run", graph=workflows.outputs(report)), step("outputs")], home=tmp_path
    )
    assert [(out["type"], base64.b64decode(out["data"]).decode()) for out in outputs] == [
        ("image", "1"),
        ("video", "22"),
        ("audio", "333"),
        ("latent", "4444"),
        ("file", "55555"),
        ("text", "grüße"),
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_a_full_queue_is_tried_again(comfyui: RealComfyUI, tmp_path: Path, mode: str) -> None:
    """429 with Retry-After is what the library waits for: the job is taken when there is room."""
    gate = tmp_path / "gate"
    settings = {"QUEUE_MAX": "1", "COMFYUI_QUEUE_DEPTH": "1"}
    async with serving(comfyui.url, tmp_path / "state", environ=settings) as server:
        filling = [step("submit", graph=workflows.wait(until_file=gate)) for _ in range(3)]
        await returned(server.url, mode, filling, home=tmp_path)

        def refused() -> list[Any]:
            gate_opens = [event for event in server.log() if event.get("status") == 429]
            if gate_opens:
                gate.touch()
            return gate_opens

        async with asyncio.TaskGroup() as group:
            late = group.create_task(
                returned(
                    server.url, mode, [step("run", graph=workflows.colour((3, 2, 1))), step("outputs")], home=tmp_path
                )
            )
            await eventually(refused)
        assert pixel(late.result()[1][0]["data"]) == (3, 2, 1)


@pytest.mark.parametrize("mode", MODES)
async def test_the_library_takes_up_events_that_were_cut(server: Serving, tmp_path: Path, mode: str) -> None:
    """It connects again when the stream breaks, and still hears of the end."""
    gate = tmp_path / "gate"
    steps = [step("submit", graph=workflows.wait(until_file=gate)), step("events")]
    async with FaultProxy(server.url) as proxy, asyncio.TaskGroup() as group:
        cut = proxy.drop_answer("GET", "/api/v2/jobs/*/events", after_bytes=0)
        client = group.create_task(returned(proxy.url, mode, steps, home=tmp_path))
        await cut.met.wait()
        await eventually(lambda: [path for path in map(path_of, proxy.requests) if path.endswith("/events")][1:])
        gate.touch()
        events = (await client)[1]
    assert (events[-1]["event"], events[-1]["status"]) == ("StatusChange", "succeeded")


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_done_outlives_the_server(comfyui: RealComfyUI, tmp_path: Path, mode: str) -> None:
    """A job is taken up by its id after the server was killed and started again, with its files and its labels."""
    async with serving(comfyui.url, tmp_path / "state") as first:
        job_id, *_ = await returned(
            first.url,
            mode,
            [step("submit", graph=workflows.colour((7, 8, 9)), metadata={"a": "b"}), step("wait")],
            home=tmp_path,
        )
        await first.kill()
    async with serving(comfyui.url, tmp_path / "state") as second:
        status, outputs, labels, events = await returned(
            second.url,
            mode,
            [step("rehydrate", job_id=job_id), step("outputs"), step("labels"), step("events")],
            home=tmp_path,
        )
    assert (status, pixel(outputs[0]["data"]), labels) == ("succeeded", (7, 8, 9), {"a": "b"})
    assert [event["event"] for event in events if event["event"] == "OutputReady"] == ["OutputReady"]


@pytest.mark.parametrize("mode", MODES)
async def test_each_key_has_its_own_jobs(comfyui: RealComfyUI, tmp_path: Path, mode: str) -> None:
    """The library's key is the bearer token; a wrong one is refused, another one's jobs and files are not there."""
    keys = {"API_KEYS": "key-of-one,key-of-another"}
    async with serving(comfyui.url, tmp_path / "state", environ=keys) as server:
        job_id, outputs = await returned(
            server.url,
            mode,
            [step("run", graph=workflows.noise()), step("outputs")],
            home=tmp_path,
            api_key="key-of-one",
        )
        other = await calls(
            server.url,
            mode,
            [
                step("rehydrate", job_id=job_id),
                step("get_asset", asset_id=outputs[0]["id"]),
                sent("known", base64.b64decode(outputs[0]["data"]), "known.png"),
                step("commit", name="known"),
                step("list_jobs"),
            ],
            home=tmp_path,
            api_key="key-of-another",
        )
        wrong, none = [
            (await calls(server.url, mode, [step("list_jobs")], home=tmp_path, api_key=key))[0]
            for key in ("key-of-nobody", None)
        ]
    assert [other[index]["raised"]["class"] for index in (0, 1)] == ["NotFound", "NotFound"]
    assert (other[3]["returned"]["created_new"], other[4]["returned"]) == (True, [])
    assert [answer["raised"]["class"] for answer in (wrong, none)] == ["Unauthorized", "Unauthorized"]


async def test_previews_come_while_a_sampler_runs(comfyui_base: Path, comfyui_install: Install, tmp_path: Path) -> None:
    """A server that starts its own ComfyUI shows what samplers are at, without being told to."""
    environ = {
        "COMFYUI_PATH": str(comfyui_install.path),
        "COMFYUI_BASE_DIR": str(comfyui_base),
        "COMFYUI_ARGS": "--cpu --disable-api-nodes",
    }
    async with serving(None, tmp_path / "state", environ=environ) as server:
        told = [
            await returned(
                server.url,
                mode,
                [step("submit", graph=workflows.text_to_image(steps=12)), step("events")],
                home=tmp_path,
            )
            for mode in MODES
        ]
    for _, events in told:
        previews = [event for event in events if event["event"] == "Preview"]
        assert {(event["node_id"], event["content_type"]) for event in previews} == {("5", "image/jpeg")}
        assert Image.open(io.BytesIO(base64.b64decode(previews[0]["data"]))).format == "JPEG"
