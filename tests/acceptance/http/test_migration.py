"""What the clients of other workers send works on the server, and is answered in the shape that they know.

Large pictures and many steps are made small here; test_dialects.py runs them as they stand.
"""

import base64
import io
import json
import re
from typing import Any

import aiohttp
from PIL import Image

from comfyworker.jobs import Graph
from support.migration import Origin, origins
from support.pipelines import png
from support.real_comfyui import CHECKPOINT_NAME
from support.serving import post
from support.workflows import node, unique_prefix

# What each worker's answer to a job that went well has, as its documents show it.
KEYS = {
    "worker-comfyui": {"images"},
    "config-yml-worker": {"status", "images"},
    "flux-worker": {"status", "images", "filenames", "execution_time_seconds", "prompt_id"},
    "vast-pyworker": {"id", "message", "status", "comfyui_response", "output", "timings"},
}
ENTRY_KEYS = {
    "worker-comfyui": {"filename", "type", "data"},
    "config-yml-worker": {"url", "filename", "type", "node_id"},
}
OURS = {"cold_start", "used", "warnings"}
PICTURE = base64.b64encode(png((255, 255, 0))).decode()
PICTURE_SIZE = Image.open(io.BytesIO(png((255, 255, 0)))).size


def workflow(*, with_picture: bool) -> Graph:
    """Return a workflow with the ids that the workers' documents use: 6 is the prompt, 25 the noise, 27 the size."""
    sampler: dict[str, Any] = {"noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0]}
    graph = {
        "6": node("CLIPTextEncode", text="", clip=["30", 1]),
        "8": node("VAEDecode", samples=["13", 0], vae=["30", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix=unique_prefix()),
        "13": node("SamplerCustomAdvanced", **sampler, latent_image=["27", 0]),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", model=["30", 0], scheduler="simple", steps=1, denoise=1.0),
        "22": node("BasicGuider", model=["30", 0], conditioning=["6", 0]),
        "25": node("RandomNoise", noise_seed=1),
        "27": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "30": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT_NAME),
    }
    loaded = {"8": node("LoadImage", image="input.png"), "9": graph["9"]}
    return loaded if with_picture else graph


def first_request(origin: Origin) -> tuple[str, dict[str, Any]]:
    """Return the route and the body of a worker's own example that needs no storage; filled in where it is open."""
    example = next(each for each in origin.examples if "backblaze" not in each["body"] and "RawW" not in each["body"])
    graph = json.dumps(workflow(with_picture='"images"' in example["body"]))
    text = re.sub(r'"(width|height)": \d+', r'"\1": 64', re.sub(r'"steps": \d+', '"steps": 1', example["body"]))
    text = text.replace('"workflow": "workflow"', f'"workflow": {graph}')
    return example["route"], json.loads(text.replace('"image": "picture"', f'"image": "{PICTURE}"'))


async def test_each_workers_requests_work_on_the_server(client: aiohttp.ClientSession) -> None:
    """With the dialect named, or the route alone; the answer has the worker's keys and a picture of the right size."""
    for origin in origins():
        route, body = first_request(origin)
        if route == "/runsync":
            body["input"]["response_format"] = origin.dialect
        code, answer = await post(client, route, body)
        output = answer["output"] if route == "/runsync" else answer
        assert (origin.name, code, set(output) - OURS) == (origin.name, 200, KEYS[origin.name]), answer
        entries = output["output"] if route == "/generate/sync" else output["images"]
        if origin.name in ENTRY_KEYS:
            assert [set(entry) for entry in entries] == [ENTRY_KEYS[origin.name]]
        [entry] = entries
        made = await picture_of(client, entry)
        assert made.size == (PICTURE_SIZE if origin.name == "worker-comfyui" else (64, 64))


async def picture_of(client: aiohttp.ClientSession, entry: Any) -> Image.Image:
    """Return the picture that an entry of an answer holds or leads to."""
    if isinstance(entry, dict) and "url" in entry:
        async with client.get(entry["url"]) as answer:
            return Image.open(io.BytesIO(await answer.read()))
    return Image.open(io.BytesIO(base64.b64decode(entry["data"] if isinstance(entry, dict) else entry)))
