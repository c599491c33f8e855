"""A real ComfyUI that loads models from local copies."""

import os
import shutil
from pathlib import Path

import aiohttp

from comfyworker.pipeline import Pipeline
from comfyworker.prefetch.copies import Contents
from comfyworker.prefetch.figures import Nearness
from support import workflows
from support.eventually import eventually
from support.pipelines import code, pipeline_of_own, request
from support.ports import free_port
from support.real_comfyui import CHECKPOINT_NAME, Install

NAME = "sd3/on-the-volume.safetensors"
SECOND = 10**9


async def load(pipeline: Pipeline) -> str:
    """Have ComfyUI load the volume's checkpoint; return how the job ended."""
    # ComfyUI keeps what the nodes of the last workflow gave: one without the loader has it load the file anew.
    await pipeline.run(request(workflows.colour((1, 2, 3))))
    graph = workflows.text_to_image(steps=1, width=64, height=64)
    graph["1"]["inputs"]["ckpt_name"] = NAME
    return code(await pipeline.run(request(graph)))


def damage(model: Path, *, moved_s: int) -> None:
    """Make a file one that cannot be loaded, of the same size, with a time that is so much later."""
    before = model.stat()
    with model.open("r+b") as file:
        file.write(b"\xff" * 64)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + moved_s * SECOND))


async def names(port: int) -> list[str]:
    """Return the checkpoints that ComfyUI offers."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/models/checkpoints") as answer,
    ):
        return list(await answer.json())


async def test_comfyui_loads_the_copy(
    comfyui_base: Path, comfyui_install: Install, checkpoint: Path, tmp_path: Path
) -> None:
    """The copy that was made while the first job ran, for as long as the volume has the same model."""
    model = tmp_path / "volume/checkpoints" / NAME
    model.parent.mkdir(parents=True)
    shutil.copyfile(checkpoint, model)
    port = free_port()
    async with pipeline_of_own(
        comfyui_base,
        comfyui_install.path,
        port,
        MODELS_PATH=str(tmp_path / "volume"),
        PREFETCH_MODELS="copy",
        LOCAL_MODEL_CACHE_GB="1",
        LOCAL_MODEL_CACHE_DIR=str(tmp_path / "cache"),
    ) as pipeline:
        prefetch = pipeline.prefetch
        assert prefetch is not None
        copies = prefetch.copies
        assert copies is not None
        whole = Contents(files=1, size_bytes=model.stat().st_size)
        assert await load(pipeline) == "succeeded"
        await eventually(lambda: copies.contents() == whole, within_s=30)
        assert await names(port) == [NAME, CHECKPOINT_NAME]

        # What ComfyUI loads now cannot be the volume's.
        damage(model, moved_s=0)
        assert await load(pipeline) == "succeeded"
        assert prefetch.figures.uses == {Nearness.DISK: 1, Nearness.COPY: 1}

        # The model is another now: its name leads to it, whatever was copied before.
        damage(model, moved_s=1)
        assert await load(pipeline) == "node_execution_error"
        shutil.copyfile(checkpoint, model)
        assert await load(pipeline) == "succeeded"
        await eventually(lambda: copies.contents() == whole, within_s=30)

        # What is gone from the volume is offered no more.
        model.unlink()
        copies.sweep()
        assert await names(port) == [CHECKPOINT_NAME]
        assert copies.contents().files == 0
