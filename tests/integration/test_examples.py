"""The examples that need no model make pictures worth looking at on a real ComfyUI."""

import json
import shutil

import pytest
from PIL import Image, ImageStat

from support.plain_client import executed, run_graph
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY
from support.workflows import unique_prefix

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.parametrize(
    ("name", "size"), [("mountains.json", (960, 640)), ("poster.json", (832, 576)), ("sunset.json", (384, 256))]
)
async def test_an_example_makes_a_picture(comfyui: RealComfyUI, name: str, size: tuple[int, int]) -> None:
    """One picture comes out, of the right size, with light and dark and many colours."""
    graph = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    prefix = unique_prefix()
    for node in graph.values():
        if node["class_type"] == "LoadImage":
            shutil.copy(EXAMPLES / "input.png", comfyui.input_dir / f"{prefix}.png")
            node["inputs"]["image"] = f"{prefix}.png"
        if node["class_type"] == "SaveImage":
            node["inputs"]["filename_prefix"] = prefix

    frames = await run_graph(comfyui.url, graph)

    [[saved]] = [output["images"] for output in executed(frames).values()]
    with Image.open(comfyui.output_dir / saved["filename"]) as picture:
        assert picture.size == size
        assert min(ImageStat.Stat(picture).stddev) > 20
        assert len(picture.getcolors(maxcolors=1 << 24) or ()) > 50


async def test_the_text_to_image_example_lacks_only_its_model(comfyui: RealComfyUI) -> None:
    """ComfyUI refuses it for the checkpoint alone; all else in it is right."""
    graph = json.loads((EXAMPLES / "text-to-image.json").read_text(encoding="utf-8"))
    with pytest.raises(AssertionError) as refused:
        await run_graph(comfyui.url, graph)
    answer = json.loads(str(refused.value).splitlines()[0])
    problems = [(node_id, error["type"]) for node_id, node in answer["node_errors"].items() for error in node["errors"]]
    assert problems == [("4", "value_not_in_list")]
