"""Artifacts on their way out, from a real ComfyUI to a real object store."""

import asyncio
import base64
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from comfyworker.jobs import Artifact, DeliveryMode, Graph, JobRequest, JobResult, Output, PictureFormat, StoreOptions
from support import workflows
from support.object_store import ObjectStore
from support.object_store_client import fetch
from support.object_store_proxy import StoreProxy
from support.pipelines import code, colour_of, files_in, pipeline_on, queue_of, request
from support.ports import free_port
from support.real_comfyui import RealComfyUI

RED = (200, 0, 0)
BLUE = (0, 0, 200)


def wanting(graph: Graph, output: Output | None = None, store: StoreOptions | None = None) -> JobRequest:
    """Return a request that wants its artifacts so."""
    return request(graph).model_copy(update={"output": output or Output(), "store": store})


def two_pictures() -> Graph:
    """Return a workflow with a red picture and a blue one, saved as red… and blue…."""
    prefix = workflows.unique_prefix()
    graph = {
        f"{name}-{node_id}": {
            **node,
            "inputs": {
                key: [f"{name}-{value[0]}", value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            },
        }
        for name, rgb in (("red", RED), ("blue", BLUE))
        for node_id, node in workflows.colour(rgb).items()
    }
    for name in ("red", "blue"):
        graph[f"{name}-{workflows.SAVE}"]["inputs"]["filename_prefix"] = f"{name}{prefix}"
    return graph


async def read_colour(artifact: Artifact) -> tuple[int, ...]:
    """Return the colour of the picture that lies at an artifact's URL."""
    answer = await fetch(artifact.url or "")
    assert (answer.status, answer.content_type) == (200, artifact.content_type)
    pixel = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return tuple(int(part) for part in pixel)


def kept(comfyui: RealComfyUI, result: JobResult) -> list[str]:
    """Return the names of a job's files that are kept in the state folder."""
    return files_in(comfyui.base_dir / "state/undelivered" / result.id)


async def test_files_go_to_the_bucket_where_there_is_one(comfyui: RealComfyUI, object_store: ObjectStore) -> None:
    """Each has a URL that anybody can read; nothing of the job stays with ComfyUI."""
    bucket, before = await object_store.make_bucket(), files_in(comfyui.output_dir)
    told: list[Artifact] = []
    async with pipeline_on(comfyui, environ=object_store.variables(bucket)) as pipeline:
        result = await pipeline.run(wanting(two_pictures()), on_artifact=told.append)
    assert code(result) == "succeeded"
    assert {await read_colour(artifact) for artifact in result.artifacts} == {RED, BLUE}
    assert [artifact.data for artifact in result.artifacts] == [None, None]
    assert sorted(artifact.name for artifact in told) == sorted(artifact.name for artifact in result.artifacts)
    assert await object_store.keys_in(bucket) == sorted(f"{result.id}/{artifact.name}" for artifact in told)
    assert files_in(comfyui.output_dir) == before


async def test_a_bucket_of_the_requests_own_goes_before_the_workers(
    comfyui: RealComfyUI, object_store: ObjectStore
) -> None:
    """Field by field: here only the bucket is the request's."""
    workers, own = await object_store.make_bucket(), await object_store.make_bucket()
    job = wanting(workflows.colour(RED), store=StoreOptions(bucket=own))
    async with pipeline_on(comfyui, environ=object_store.variables(workers)) as pipeline:
        result = await pipeline.run(job)
    assert code(result) == "succeeded"
    assert await read_colour(result.artifacts[0]) == RED
    assert await object_store.keys_in(workers) == []
    assert await object_store.keys_in(own) == [f"{result.id}/{result.artifacts[0].name}"]


@pytest.mark.parametrize("shares_disk", [True, False])
async def test_with_the_store_down_the_job_says_so_and_nothing_is_lost(
    comfyui: RealComfyUI, object_store: ObjectStore, *, shares_disk: bool
) -> None:
    """The files are kept, and leave nothing else behind."""
    before = files_in(comfyui.output_dir)
    down = {"BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "BUCKET_ATTEMPTS": "2"}
    async with pipeline_on(
        comfyui, shares_disk=shares_disk, environ={**object_store.variables("b"), **down}
    ) as pipeline:
        result = await pipeline.run(wanting(two_pictures()))
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("delivery_failed", True)
    names = sorted(artifact.name for artifact in result.artifacts)
    assert sorted(map(str, result.error.details["failed"])) == names  # type: ignore[arg-type]  # a list of texts
    assert kept(comfyui, result) == names
    assert await queue_of(comfyui.url) == ([], [])
    if shares_disk:
        assert files_in(comfyui.output_dir) == before


async def test_one_file_that_does_not_arrive_fails_the_job_and_names_the_others(
    comfyui: RealComfyUI, object_store: ObjectStore, store_proxy: StoreProxy
) -> None:
    """What did arrive stays where it is, with its URL."""
    bucket = await object_store.make_bucket()
    store_proxy.answer_error("PUT", "*/red*", status=403, code="AccessDenied", message="no", times=100)
    through = object_store.behind(store_proxy.url).variables(bucket)
    async with pipeline_on(comfyui, environ=through) as pipeline:
        result = await pipeline.run(wanting(two_pictures()))
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("delivery_failed", False)
    [red, blue] = sorted(result.artifacts, key=lambda artifact: artifact.name, reverse=True)
    assert red.failure is not None
    assert red.name in result.error.message
    assert result.error.details["delivered"] == [blue.name]
    assert kept(comfyui, result) == [red.name]
    assert await object_store.keys_in(bucket) == [f"{result.id}/{blue.name}"]


async def test_a_failed_upload_falls_back_into_the_answer(comfyui: RealComfyUI, object_store: ObjectStore) -> None:
    """Where the worker says so; nothing needs to be kept then."""
    down = {"BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "BUCKET_ATTEMPTS": "1"}
    variables = {**object_store.variables("b"), **down, "FALLBACK_INLINE": "true"}
    async with pipeline_on(comfyui, environ=variables) as pipeline:
        result = await pipeline.run(wanting(workflows.colour(RED)))
    assert code(result) == "succeeded"
    assert colour_of(result.artifacts[0]) == RED
    assert kept(comfyui, result) == []


async def test_an_answer_that_the_platform_would_drop_is_an_error(comfyui: RealComfyUI) -> None:
    """It says what to set, and the files are kept."""
    job = wanting(workflows.noise(256, 256))
    async with pipeline_on(comfyui, ANSWER_MAX_BYTES="50000") as pipeline:
        result = await pipeline.run(job)
    assert result.error is not None
    assert result.error.code == "answer_too_large"
    assert "BUCKET_ENDPOINT_URL" in (result.error.hint or "")
    assert len(kept(comfyui, result)) == 1


async def test_an_answer_that_is_too_large_goes_to_the_bucket(comfyui: RealComfyUI, object_store: ObjectStore) -> None:
    """Also where base64 was asked for: a URL is better than nothing."""
    bucket = await object_store.make_bucket()
    job = wanting(workflows.noise(256, 256), Output(delivery=DeliveryMode.BASE64))
    async with pipeline_on(comfyui, environ=object_store.variables(bucket), ANSWER_MAX_BYTES="50000") as pipeline:
        result = await pipeline.run(job)
    assert code(result) == "succeeded"
    assert (await fetch(result.artifacts[0].url or "")).status == 200


async def test_pictures_are_made_into_the_format_that_is_wanted(
    comfyui: RealComfyUI, object_store: ObjectStore
) -> None:
    """With the right name and media type, and with the workflow inside as ComfyUI reads it."""
    bucket = await object_store.make_bucket()
    job = wanting(workflows.colour(RED), Output(format=PictureFormat.WEBP, quality=90))
    async with pipeline_on(comfyui, environ=object_store.variables(bucket)) as pipeline:
        result = await pipeline.run(job)
    [artifact] = result.artifacts
    assert (artifact.name[-5:], artifact.content_type) == (".webp", "image/webp")
    answer = await fetch(artifact.url or "")
    picture = Image.open(io.BytesIO(answer.body))
    assert (picture.format, answer.content_type, len(answer.body)) == ("WEBP", "image/webp", artifact.size_bytes)
    assert any(str(value).startswith("prompt:") for value in picture.getexif().values())


@pytest.mark.parametrize(("variables", "has_workflow"), [({}, True), ({"STRIP_METADATA": "true"}, False)])
async def test_the_workflow_is_in_the_picture_unless_it_is_stripped(
    comfyui: RealComfyUI, variables: Mapping[str, str], *, has_workflow: bool
) -> None:
    """Pixels are the same either way."""
    async with pipeline_on(comfyui, environ=variables) as pipeline:
        result = await pipeline.run(wanting(workflows.colour(RED)))
    assert colour_of(result.artifacts[0]) == RED
    assert (b"class_type" in base64.b64decode(result.artifacts[0].data or "")) is has_workflow


async def test_what_cannot_be_delivered_is_not_begun(comfyui: RealComfyUI) -> None:
    """Nobody pays a GPU to hear that there is no bucket."""
    job = wanting(workflows.colour(RED), Output(delivery=DeliveryMode.S3))
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(job)
    assert (code(result), result.timings.execute_s) == ("invalid_request", None)


async def test_canceled_while_being_uploaded(
    comfyui: RealComfyUI, object_store: ObjectStore, store_proxy: StoreProxy
) -> None:
    """Nothing of the job stays: not with ComfyUI, not in the bucket, not in the state folder."""
    bucket, before = await object_store.make_bucket(), files_in(comfyui.output_dir)
    held = store_proxy.hold("PUT", "*")
    job = wanting(workflows.colour(RED))
    async with pipeline_on(comfyui, environ=object_store.behind(store_proxy.url).variables(bucket)) as pipeline:
        running = asyncio.ensure_future(pipeline.run(job))
        await held.met.wait()
        running.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert files_in(comfyui.output_dir) == before
    assert await object_store.keys_in(bucket) == []
    assert not (comfyui.base_dir / "state/undelivered" / job.id).exists()


async def test_over_its_deadline_while_being_uploaded(
    comfyui: RealComfyUI, object_store: ObjectStore, store_proxy: StoreProxy
) -> None:
    """The job has failed, but what the GPU has made is kept."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*")
    job = wanting(workflows.colour(RED)).model_copy(update={"timeout_s": 1.5})
    async with pipeline_on(comfyui, environ=object_store.behind(store_proxy.url).variables(bucket)) as pipeline:
        result = await pipeline.run(job)
        held.release()
    assert result.error is not None
    assert (result.error.code, result.error.details["stage"]) == ("job_timeout", "deliver")
    assert len(kept(comfyui, result)) == 1


async def test_comfyui_goes_on_while_a_slow_bucket_takes_a_file(
    comfyui: RealComfyUI, object_store: ObjectStore, store_proxy: StoreProxy
) -> None:
    """The next job is executed while the first is being uploaded."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*")
    async with pipeline_on(comfyui, environ=object_store.behind(store_proxy.url).variables(bucket)) as pipeline:
        first = asyncio.ensure_future(pipeline.run(wanting(workflows.colour(RED))))
        await held.met.wait()
        second = await pipeline.run(wanting(workflows.colour(BLUE), Output(delivery=DeliveryMode.BASE64)))
        assert colour_of(second.artifacts[0]) == BLUE
        assert not first.done()
        held.release()
        assert code(await first) == "succeeded"


async def test_where_nothing_can_be_kept_the_files_are_left(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path
) -> None:
    """A state folder that cannot be is no reason to throw a picture away."""
    before = files_in(comfyui.output_dir)
    (tmp_path / "state").write_text("a file where the folder should be")
    down = {"BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "BUCKET_ATTEMPTS": "1"}
    variables = {**object_store.variables("b"), **down, "STATE_DIR": str(tmp_path / "state")}
    async with pipeline_on(comfyui, environ=variables) as pipeline:
        result = await pipeline.run(wanting(workflows.colour(RED)))
    assert result.error is not None
    assert "left where ComfyUI wrote them" in (result.error.hint or "")
    [left] = set(files_in(comfyui.output_dir)) - set(before)
    assert left == result.artifacts[0].name
    (comfyui.output_dir / left).unlink()
