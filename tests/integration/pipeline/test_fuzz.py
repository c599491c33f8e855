"""Requests broken at random, through the code of `comfyworker handle`, on a real ComfyUI."""

import asyncio
import base64
import copy
import json
import random
from typing import Any

import pytest

from comfyworker.dialects import DIALECT_NAMES, dialect_named
from comfyworker.hosts.local import answer
from comfyworker.settings import load_settings
from support import workflows
from support.pipelines import files_in, png, queue_of
from support.real_comfyui import RealComfyUI

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1.5e300, "", "x", "__RANDOM_INT__", "../../evil", "http://127.0.0.1/x.png", "\x00",
    [], {}, ["1", 0], ["77", 0], ["1", -9], [["1", 0]], {"__value__": [1]}, {"a": {"b": {"c": []}}}, "é" * 5000,
)  # fmt: skip
REQUESTS_A_DIALECT = 40


def sound_requests() -> list[dict[str, Any]]:
    """Return requests that would do well: each way of asking."""
    image = {"name": "in.png", "image": base64.b64encode(png((1, 2, 3))).decode()}
    small = workflows.text_to_image(steps=1, width=64, height=64)
    return [
        {"workflow": workflows.invert("in.png"), "images": [image]},
        {"workflow": small, "prompt": "a fox", "seed": 5, "width": 64, "height": 64},
        {"workflow": small, "overrides": [{"node_id": "2", "field": "inputs.text", "value": "a hen"}], "timeout": 5},
        {"modifier": "Text2Image", "modifications": {"prompt": "x", "steps": 1, "width": 64, "height": 64}},
        {"modifier": "RawWorkflow", "modifications": {"seed": -1}, "workflow_json": workflows.colour((1, 2, 3))},
    ]


def places(value: object, way: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the ways to every value within one."""
    found = [way] if way else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found += places(inner, (*way, key))
    return found


def broken(request: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return a request with one to three places removed, or replaced by something odd."""
    changed = copy.deepcopy(request)
    for _ in range(chance.randint(1, 3)):
        *way, last = chance.choice(places(changed))
        target: Any = changed
        for key in way:
            target = target[key]
        if chance.random() < 0.3:
            del target[last]
        else:
            target[last] = copy.deepcopy(chance.choice(ODD))
        if not places(changed):
            break
    return changed


@pytest.mark.parametrize("name", DIALECT_NAMES)
async def test_no_broken_request_gives_anything_but_an_answer(comfyui: RealComfyUI, name: str) -> None:
    """Each one is answered in time and in its dialect, never as a fault of the worker; ComfyUI is empty afterwards."""
    environ = {"COMFY_API_URL": comfyui.url, "COMFYUI_BASE_DIR": str(comfyui.base_dir), "JOB_TIMEOUT_S": "5"}
    settings = load_settings(environ)
    before = files_in(comfyui.input_dir)
    chance, sound = random.Random(20251), sound_requests()
    for number in range(REQUESTS_A_DIALECT):
        request = broken(sound[number % len(sound)], chance)
        async with asyncio.timeout(60):
            content = json.dumps({"input": request}).encode()  # orjson writes no numbers above 64 bits
            document, is_success = await answer(content, settings, dialect=dialect_named(name))
        assert "internal_error" not in str(document), (number, request, document)
        assert is_success or document, (number, request)
    assert await queue_of(comfyui.url) == ([], [])
    assert files_in(comfyui.input_dir) == before
