"""Workflows that tests run over and over.

Each call gives a graph of its own filename prefix, so no test meets another's files.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfyworker.jobs import Graph
from support.real_comfyui import CHECKPOINT_NAME

SAVE = "9"
"""The id of the node that saves, in every workflow here."""


def unique_prefix() -> str:
    """Return a filename prefix that nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}"


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    """Return one node; a link is `["1", 0]`."""
    made: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
    return made if title is None else {**made, "_meta": {"title": title}}


def save(images: str, *, prefix: str | None = None) -> dict[str, Any]:
    """Return a SaveImage behind node `images`."""
    return node("SaveImage", "Save", images=[images, 0], filename_prefix=prefix or unique_prefix())


def noise(width: int = 64, height: int = 64, *, batch_size: int = 1, seed: int | None = None) -> Graph:
    """Random pixels → save. Without a seed, pixels that no other test has."""
    inputs = {"width": width, "height": height, "batch_size": batch_size}
    chosen = uuid.uuid4().int % 2**62 if seed is None else seed
    return {"1": node("TestNoise", "Noise", **inputs, seed=chosen), SAVE: save("1")}


def colour(rgb: tuple[int, int, int], *, width: int = 64, height: int = 64, batch_size: int = 1) -> Graph:
    """One colour → save: the answer shows whose it is."""
    inputs = {"width": width, "height": height, "batch_size": batch_size}
    names = dict(zip(("red", "green", "blue"), rgb, strict=True))
    return {"1": node("TestColour", "Colour", **inputs, **names), SAVE: save("1")}


def invert(filename: str = "input.png") -> Graph:
    """Load a picture → invert → save."""
    return {
        "1": node("LoadImage", "Load", image=filename),
        "2": node("ImageInvert", "Invert", image=["1", 0]),
        SAVE: save("2"),
    }


def wait(
    *,
    steps: int = 4,
    seconds_per_step: float = 0.0,
    until_file: Path | None = None,
    rgb: tuple[int, int, int] = (9, 9, 9),
) -> Graph:
    """One colour → wait → save; the wait is never cached, and reports each step.

    With `until_file` it lasts until that file exists.
    """
    timing = {"steps": steps, "seconds_per_step": seconds_per_step}
    gate = "" if until_file is None else str(until_file)
    return {
        **colour(rgb),
        "2": node("TestWait", "Wait", image=["1", 0], **timing, until_file=gate, token=uuid.uuid4().hex),
        SAVE: save("2"),
    }


def text_to_image(
    text: str = "a cat", *, steps: int = 4, seed: int | None = None, width: int = 128, height: int = 128
) -> Graph:
    """A whole text-to-image graph on the tiny random checkpoint; its pictures are noise."""
    chosen = uuid.uuid4().int % 2**62 if seed is None else seed
    conditioning = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    sampling = {"steps": steps, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return {
        "1": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name=CHECKPOINT_NAME),
        "2": node("CLIPTextEncode", "Positive", text=text, clip=["1", 1]),
        "3": node("CLIPTextEncode", "Negative", text="", clip=["1", 1]),
        "4": node("EmptySD3LatentImage", "Size", width=width, height=height, batch_size=1),
        "5": node("KSampler", "Sampler", **conditioning, **sampling, seed=chosen),
        "6": node("VAEDecode", "Decode", samples=["5", 0], vae=["1", 2]),
        SAVE: save("6"),
    }


def outputs(report: Mapping[str, object]) -> Graph:
    """A node that writes and reports files and texts under any keys; see `TestOutputs`.

    `{"gifs": [{"filename": "a.gif", "content": "…"}], "text": ["hello"]}`
    """
    return {"1": node("TestOutputs", "Outputs", report=json.dumps(report))}


def failing(exception: str = "ValueError", message: str = "raised by a test") -> Graph:
    """A node that raises a builtin exception."""
    return {**colour((1, 2, 3)), "2": node("TestRaise", "Raise", exception=exception, message=message, image=["1", 0])}


def out_of_memory(kind: str = "gpu") -> Graph:
    """A node that runs out of memory: on a `gpu`, on the `cpu` (torch's allocator) or in `python`."""
    return {"1": node("TestOutOfMemory", "Out of memory", kind=kind)}


def crash() -> Graph:
    """A node that kills ComfyUI with SIGKILL; only for a ComfyUI of the test's own."""
    return {**colour((1, 2, 3)), "2": node("TestCrash", "Crash", image=["1", 0])}


def block(message: str = "") -> Graph:
    """One colour → blocked → save: nothing is saved, and with a message ComfyUI reports an error."""
    return {**colour((1, 2, 3)), "2": node("TestBlock", "Block", image=["1", 0], message=message), SAVE: save("2")}


def spawn(pid_file: Path) -> Graph:
    """A node that leaves processes behind and writes their ids; only for a ComfyUI of the test's own."""
    return {"1": node("TestSpawn", "Spawn", pid_file=str(pid_file))}
