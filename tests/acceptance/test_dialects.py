"""The request examples of the clients that we serve, as they send them, through `comfyworker handle` on a ComfyUI.

Only what the examples leave open is filled in: the workflow where they show `{ ... }`, and the worker's default one,
with the tests' checkpoint. Where an example asks for a large picture, that workflow samples at a quarter of its size
and enlarges what came of it: a CPU needs a minute for the whole.
"""

import base64
import io
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from comfyworker.jobs import Graph
from support.command import Done, call, environment
from support.real_comfyui import CHECKPOINT_NAME, RealComfyUI
from support.workflows import node, unique_prefix

SAMPLING: dict[str, Any] = {"steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
TIMINGS = ("queued_at_ms", "preprocess_ms", "generation_ms", "postprocess_ms", "completed_at_ms", "total_ms")


def text_to_image(prefix: str) -> Graph:
    """ComfyUI's default workflow under its usual ids: 3 samples, 6 is the prompt, 9 saves."""
    links: dict[str, Any] = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    return {
        "3": node("KSampler", **links, **SAMPLING, seed=1),
        "4": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT_NAME),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("CLIPTextEncode", text="prompt", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix=prefix),
    }


def flux(prefix: str) -> Graph:
    """A workflow built as those for Flux are: 6 is the prompt, 25 the noise, 27 the size; its picture is enlarged."""
    sampler: dict[str, Any] = {"noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0]}
    return {
        "6": node("CLIPTextEncode", text="", clip=["30", 1]),
        "8": node("VAEDecode", samples=["13", 0], vae=["30", 2]),
        "9": node("SaveImage", images=["32", 0], filename_prefix=prefix),
        "13": node("SamplerCustomAdvanced", **sampler, latent_image=["31", 0]),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", model=["30", 0], scheduler="simple", steps=1, denoise=1.0),
        "22": node("BasicGuider", model=["30", 0], conditioning=["6", 0]),
        "25": node("RandomNoise", noise_seed=1),
        "27": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "30": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT_NAME),
        "31": node("LatentUpscaleBy", samples=["27", 0], upscale_method="nearest-exact", scale_by=0.25),
        "32": node("ImageScaleBy", image=["8", 0], upscale_method="nearest-exact", scale_by=4.0),
    }


def enlarging() -> Graph:
    """ComfyUI's default workflow, whose picture is enlarged."""
    graph = text_to_image(unique_prefix())
    graph["3"]["inputs"]["latent_image"] = ["10", 0]
    graph["9"]["inputs"]["images"] = ["11", 0]
    return {
        **graph,
        "10": node("LatentUpscaleBy", samples=["5", 0], upscale_method="nearest-exact", scale_by=0.25),
        "11": node("ImageScaleBy", image=["8", 0], upscale_method="nearest-exact", scale_by=4.0),
    }


def handle(comfyui: RealComfyUI, cwd: Path, body: object, *args: str, **variables: str) -> Done:
    """Hand one request to the command on standard input."""
    return call("handle", *args, environ=environment(comfyui, **variables), cwd=cwd, stdin=orjson.dumps(body))


def picture(data: str) -> Image.Image:
    """Return the picture that base64 holds."""
    return Image.open(io.BytesIO(base64.b64decode(data)))


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a PyWorker's answer without the times, which must be measured."""
    timings = answer.pop("timings")
    assert tuple(timings) == TIMINGS
    assert all(isinstance(value, int) for value in timings.values())
    assert abs(timings["completed_at_ms"] / 1000 - time.time()) < 3600
    assert timings["total_ms"] == timings["completed_at_ms"] - timings["queued_at_ms"]
    return answer


def test_worker_comfyui(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A workflow in, `images` with filename, type and data out; it needs no naming of the dialect."""
    prefix = unique_prefix()
    done = handle(comfyui, tmp_path, {"input": {"workflow": text_to_image(prefix)}})
    answer = done.json()
    data = answer["images"][0].pop("data")
    assert (done.code, answer) == (0, {"images": [{"filename": f"{prefix}_00001_.png", "type": "base64"}]})
    assert picture(data).size == (64, 64)


def test_urls(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The override example of the config.yml worker: the answer's URL is ComfyUI's, and the picture is there."""
    prefix = unique_prefix()
    override = {"node_id": "6", "field": "inputs.text", "value": "new prompt"}
    body = {"input": {"workflow": text_to_image(prefix), "overrides": [override], "timeout": 300}}
    done = handle(comfyui, tmp_path, body, "--dialect", "urls")
    name = f"{prefix}_00001_.png"
    url = f"{comfyui.url}/view?filename={name}&subfolder=&type=output"
    images = [{"url": url, "filename": name, "type": "comfyui_url", "node_id": "9"}]
    assert (done.code, done.json()) == (0, {"status": "success", "images": images})
    with urllib.request.urlopen(url) as answer:
        made = Image.open(io.BytesIO(answer.read()))
    (comfyui.output_dir / name).unlink()
    written = orjson.loads(made.info["prompt"])
    assert (made.size, written["6"]["inputs"]["text"]) == ((64, 64), "new prompt")


def test_urls_says_what_was_wrong(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A node that is not there is an error that names those that are."""
    override = {"node_id": "66", "field": "inputs.text", "value": "new prompt"}
    body = {"input": {"workflow": text_to_image("x"), "overrides": [override], "response_format": "urls"}}
    done = handle(comfyui, tmp_path, body)
    answer = done.json()
    assert (done.code, answer["status"]) == (1, "validation_error")
    assert "overrides[0].node_id: the workflow has no node '66'; did you mean '6'?" in answer["error"]


@pytest.mark.parametrize(
    ("shortcuts", "size"),
    [
        pytest.param(
            {
                "prompt": "text override",
                "prompt_node_id": "6",
                "seed": 12345,
                "seed_node_id": "25",
                "width": 1024,
                "height": 1024,
                "size_node_id": "27",
            },
            (1024, 1024),
            id="all of them",
        ),
        pytest.param({"prompt": "A beautiful sunset over mountains"}, (64, 64), id="prompt alone"),
    ],
)
def test_flux(comfyui: RealComfyUI, tmp_path: Path, shortcuts: dict[str, Any], size: tuple[int, int]) -> None:
    """The shortcuts land in the nodes with the usual ids; the answer is as the Flux worker's."""
    prefix = unique_prefix()
    body = {"input": {"workflow": flux(prefix), **shortcuts}}
    done = handle(comfyui, tmp_path, body, "--dialect", "flux")
    answer = done.json()
    assert done.code == 0, answer
    made = picture(answer["images"].pop())
    seconds, prompt_id = answer.pop("execution_time_seconds"), answer.pop("prompt_id")
    assert answer == {"status": "success", "images": [], "filenames": [f"{prefix}_00001_.png"]}
    assert (seconds > 0, str(uuid.UUID(prompt_id))) == (True, prompt_id)
    written = orjson.loads(made.info["prompt"])
    assert (made.size, written["6"]["inputs"]["text"]) == (size, shortcuts["prompt"])
    assert written["25"]["inputs"]["noise_seed"] == shortcuts.get("seed", 1)


def test_flux_says_what_was_wrong(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A typo in a model's name is answered with the right name, as a validation error."""
    graph = flux("x")
    graph["30"]["inputs"]["ckpt_name"] = "tiny-sd33.safetensors"
    done = handle(comfyui, tmp_path, {"input": {"workflow": graph, "prompt": "x"}}, "--dialect", "flux")
    answer = done.json()
    assert (done.code, answer["status"], answer["error_type"]) == (1, "error", "validation")
    assert (CHECKPOINT_NAME in answer["error"], answer["error_code"]) == (True, "missing_model")
    assert answer["execution_time_seconds"] > 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {
                "input": {
                    "request_id": "uuid-string",
                    "modifier": "RawWorkflow",
                    "modifications": {
                        "prompt": "a beautiful landscape",
                        "width": 1024,
                        "height": 1024,
                        "steps": 20,
                        "seed": 123456789,
                    },
                },
                "expected_time": 30.0,
            },
            id="RawWorkflow",
        ),
        pytest.param(
            {
                "auth_data": {"reqnum": 1, "request_idx": 1, "url": "http://worker", "signature": "c2ln"},
                "session_id": None,
                "payload": {
                    "input": {
                        "modifier": "Text2Image",
                        "modifications": {
                            "prompt": "a cat sitting on a windowsill",
                            "width": 512,
                            "height": 512,
                            "steps": 20,
                            "seed": 42,
                        },
                    },
                    "expected_time": 25.0,
                },
            },
            id="Text2Image in Vast's envelope",
        ),
    ],
)
def test_pyworker_modifiers(comfyui: RealComfyUI, tmp_path: Path, body: dict[str, Any]) -> None:
    """The seed's examples, sent as they stand; one of them in the envelope that Vast's clients send."""
    default = tmp_path / "default.json"  # RawWorkflow's, since the request brings none
    default.write_bytes(orjson.dumps(enlarging()))
    done = handle(comfyui, tmp_path, body, "--dialect", "pyworker", DEFAULT_WORKFLOW=str(default))
    asked = body.get("payload", body)["input"]
    wanted = asked["modifications"]
    answer = without_times(done.json())
    assert (done.code, answer["status"], answer["message"]) == (0, "completed", "Processing complete."), answer
    assert answer["id"] == (asked.get("request_id") or str(uuid.UUID(answer["id"])))
    [entry] = answer["output"]
    made = picture(entry.pop("data"))
    place = ("filename", "local_path", "subfolder", "type", "node_id", "output_type", "mimetype")
    assert set(entry) == set(place)
    assert made.size == (wanted["width"], wanted["height"])
    written = [given for each in orjson.loads(made.info["prompt"]).values() for given in each["inputs"].items()]
    assert [(name, wanted[name]) in written for name in ("width", "height", "steps", "seed")] == [True] * 4
    assert ("text", wanted["prompt"]) in written


def test_pyworker_workflow(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The seed's own workflow, with the nodes that it leaves out; the whole answer."""
    prefix = unique_prefix()
    graph = text_to_image(prefix)
    graph["3"]["inputs"] |= {"seed": "__RANDOM_INT__", "cfg": 8, "scheduler": "normal", "denoise": 1}
    body = {"input": {"request_id": "67890", "workflow_json": graph}, "expected_time": 45.0}
    done = handle(comfyui, tmp_path, body, RESPONSE_FORMAT="pyworker")
    answer = without_times(done.json())
    [data] = [entry.pop("data") for entry in answer["output"]]
    seed = answer.pop("used")["3.seed"]
    name = f"{prefix}_00001_.png"
    place = {"filename": name, "subfolder": "", "type": "output"}
    [prompt_id] = answer["comfyui_response"]
    assert (done.code, answer) == (
        0,
        {
            "id": "67890",
            "message": "Processing complete.",
            "status": "completed",
            "comfyui_response": {prompt_id: {"outputs": {"9": {"images": [place]}}}},
            "output": [{**place, "local_path": name, "node_id": "9", "output_type": "images", "mimetype": "image/png"}],
        },
    )
    assert orjson.loads(picture(data).info["prompt"])["3"]["inputs"]["seed"] == seed


def test_pyworker_says_what_was_wrong(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The seed's workflow as it stands is a part of one: it is answered with what it lacks."""
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    sampler = {"seed": 42, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    graph = {"3": {"inputs": {**sampler, **links}, "class_type": "KSampler"}}
    body = {"input": {"request_id": "67890", "workflow_json": graph}, "expected_time": 45.0}
    done = handle(comfyui, tmp_path, body, "--dialect", "pyworker")
    answer = done.json()
    assert (done.code, answer["id"], answer["status"], answer["output"]) == (1, "67890", "failed", [])
    assert answer["error_code"] == "invalid_workflow"
    assert answer["message"].startswith("5 problems: the workflow has no output node")
    assert "linked to node '6', which is not in the workflow" in " ".join(answer["details"])


def test_an_unknown_dialect(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """It is told with those that there are; nothing is run."""
    done = handle(comfyui, tmp_path, {}, "--dialect", "fluxx")
    assert (done.code, done.out) == (2, "")
    assert "there is no dialect 'fluxx'; did you mean 'flux'?" in done.err
