"""The ComfyUI that the tests run on, and the nodes of our pack, do what the other tests rely on."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from support import workflows
from support.plain_client import executed, failure, run_graph
from support.real_comfyui import RealComfyUI


async def test_a_colour_arrives(comfyui: RealComfyUI) -> None:
    """The picture that is saved has the colour that was asked for."""
    frames = await run_graph(comfyui.url, workflows.colour((10, 200, 30), width=8, height=4))

    [saved] = executed(frames)[workflows.SAVE]["images"]
    with Image.open(comfyui.output_dir / saved["filename"]) as picture:
        assert (picture.size, picture.getcolors()) == ((8, 4), [(32, (10, 200, 30))])


async def test_noise_is_reproducible(comfyui: RealComfyUI) -> None:
    """Equal seeds make equal pixels."""
    pictures = []
    for _ in range(2):
        frames = await run_graph(comfyui.url, workflows.noise(seed=5))
        [saved] = executed(frames)[workflows.SAVE]["images"]
        with Image.open(comfyui.output_dir / saved["filename"]) as picture:
            pictures.append(picture.tobytes())
    assert pictures[0] == pictures[1]


async def test_text_to_image_counts_its_steps(comfyui: RealComfyUI) -> None:
    """The tiny checkpoint walks the whole road, with a progress message for each step."""
    frames = await run_graph(comfyui.url, workflows.text_to_image(steps=4))

    steps = [(frame["data"]["value"], frame["data"]["max"]) for frame in frames if frame["type"] == "progress"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(executed(frames)[workflows.SAVE]["images"]) == 1


async def test_wait_lasts_until_a_file_exists(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A test decides how long the wait node runs."""
    gate = tmp_path / "gate"
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_graph(comfyui.url, workflows.wait(steps=2, until_file=gate)))
        gate.touch()
    progress = [frame["data"]["value"] for frame in running.result() if frame["type"] == "progress"]
    assert progress == [1, 2]


@pytest.mark.parametrize("kind", ["gpu", "cpu", "python"])
async def test_out_of_memory_names_its_type(comfyui: RealComfyUI, kind: str) -> None:
    """Each way to run out of memory arrives with the type that the real one has."""
    error = failure(await run_graph(comfyui.url, workflows.out_of_memory(kind)))

    types = {"gpu": "torch.OutOfMemoryError", "cpu": "RuntimeError", "python": "MemoryError"}
    assert error["exception_type"] == types[kind]


async def test_raise_keeps_type_and_message(comfyui: RealComfyUI) -> None:
    """The exception that was asked for is the one that ComfyUI reports."""
    error = failure(await run_graph(comfyui.url, workflows.failing("KeyError", "gone")))
    assert (error["node_id"], error["exception_type"]) == ("2", "KeyError")
    assert "gone" in error["exception_message"]


async def test_block_with_a_message_is_an_error(comfyui: RealComfyUI) -> None:
    """A blocker with a message reaches the client as an error of the blocked node."""
    frames = await run_graph(comfyui.url, workflows.block("stop here"))
    assert "stop here" in failure(frames)["exception_message"]


async def test_outputs_are_written_and_reported(comfyui: RealComfyUI) -> None:
    """Files come under the keys asked for, in their folders; a file without content is only reported."""
    folder = workflows.unique_prefix()
    report = {
        "gifs": [{"filename": "a.gif", "subfolder": folder, "content": "GIF89a"}],
        "files": [{"filename": "b.bin", "subfolder": folder, "type": "temp", "size_bytes": 3}],
        "3d": [{"filename": "missing.glb", "subfolder": folder}],
        "text": ["hello"],
    }

    frames = await run_graph(comfyui.url, workflows.outputs(report))

    assert executed(frames)["1"] == {
        "gifs": [{"filename": "a.gif", "subfolder": folder, "type": "output"}],
        "files": [{"filename": "b.bin", "subfolder": folder, "type": "temp"}],
        "3d": [{"filename": "missing.glb", "subfolder": folder, "type": "output"}],
        "text": ["hello"],
    }
    assert (comfyui.output_dir / folder / "a.gif").read_bytes() == b"GIF89a"
    assert (comfyui.temp_dir / folder / "b.bin").read_bytes() == bytes(3)
    assert not (comfyui.output_dir / folder / "missing.glb").exists()


async def test_comfyui_answers_through_http(comfyui: RealComfyUI) -> None:
    """Our pack is loaded beside ComfyUI's own nodes."""
    async with aiohttp.ClientSession() as session, session.get(f"{comfyui.url}/object_info/TestSpawn") as answer:
        assert list(await answer.json()) == ["TestSpawn"]
