"""What custom nodes leave behind that nobody expects, on a real ComfyUI and a real object store."""

import os
import time

import pytest

from comfyworker.jobs import JobResult
from support import workflows
from support.object_store import ObjectStore
from support.object_store_client import fetch
from support.pipelines import code, files_in, pipeline_on, request
from support.real_comfyui import RealComfyUI


def kept(comfyui: RealComfyUI, result: JobResult) -> list[str]:
    """Return the names of a job's files that are kept in the state folder."""
    return files_in(comfyui.base_dir / "state/undelivered" / result.id)


async def test_odd_names_arrive(comfyui: RealComfyUI, object_store: ObjectStore) -> None:
    """Under a key of its own each, whatever the node called it."""
    names = ["日本 語.png", "x" * 251 + ".png", "..hidden.png", "a\nb.png", "[v1] 100% #1?&+.png", "caf\udce9.png"]
    report = {"images": [{"filename": name, "content": f"{index}"} for index, name in enumerate(names)]}
    bucket = await object_store.make_bucket()
    async with pipeline_on(comfyui, environ=object_store.variables(bucket)) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "succeeded"
    assert [artifact.name for artifact in result.artifacts] == names
    assert [(await fetch(artifact.url or "")).body for artifact in result.artifacts] == [
        f"{index}".encode() for index in range(len(names))
    ]


async def test_equal_names_in_two_folders_do_not_meet(comfyui: RealComfyUI, object_store: ObjectStore) -> None:
    """Both arrive."""
    report = {"images": [{"filename": "same.png", "subfolder": folder, "content": folder} for folder in ("a", "b")]}
    bucket = await object_store.make_bucket()
    async with pipeline_on(comfyui, environ=object_store.variables(bucket)) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "succeeded"
    assert [(await fetch(artifact.url or "")).body for artifact in result.artifacts] == [b"a", b"b"]


async def test_text_that_is_no_text_does_not_break_the_job(comfyui: RealComfyUI) -> None:
    """Half of a pair of code units, as a node makes of bytes that it cannot read."""
    report = {"text": ["half \ud83d of it"], "images": [{"filename": "a.png", "content": "a"}]}
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "succeeded"
    assert len(result.artifacts) == 2


@pytest.mark.parametrize("entry", [{"filename": "missing.png"}, {"filename": "../outside.png"}])
async def test_a_file_that_is_not_there_costs_no_other(comfyui: RealComfyUI, entry: dict[str, str]) -> None:
    """The job fails, but what the GPU has made is kept, and does not stay with ComfyUI."""
    before = files_in(comfyui.output_dir)
    report = {"images": [{"filename": "there.png", "content": "abc"}, entry]}
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "delivery_failed"
    assert result.error is not None
    assert result.error.details["kept"] == kept(comfyui, result) == ["there.png"]
    assert "STATE_DIR" in (result.error.hint or "")
    assert files_in(comfyui.output_dir) == before


async def test_a_file_that_was_there_before_is_nobodys_to_remove(comfyui: RealComfyUI) -> None:
    """A node may show what its user keeps in the output folder."""
    own = comfyui.output_dir / "holiday.png"
    own.write_bytes(b"mine")
    yesterday = time.time() - 86400
    os.utime(own, (yesterday, yesterday))
    report = {"images": [{"filename": "holiday.png"}, {"filename": "new.png", "content": "abc"}]}
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "succeeded"
    assert own.read_bytes() == b"mine"
    assert not (comfyui.output_dir / "new.png").exists()
