"""The shortest road through ComfyUI, without any of our code: for tests of what stands around it."""

import json
import uuid
from typing import Any

import aiohttp

from comfyworker.jobs import Graph


async def run_graph(url: str, graph: Graph) -> list[dict[str, Any]]:
    """Run `graph` on the ComfyUI at `url` and return its frames, from submission to the end."""
    prompt_id, client_id = str(uuid.uuid4()), uuid.uuid4().hex
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws?clientId={client_id}") as socket:
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        async with session.post(f"{url}/prompt", json=body) as answer:
            assert answer.status == 200, await answer.text()
        frames: list[dict[str, Any]] = []
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = json.loads(message.data)
            if frame["data"].get("prompt_id") != prompt_id:
                continue
            frames.append(frame)
            if frame["type"] == "executing" and frame["data"]["node"] is None:
                return frames
    message_text = f"the WebSocket ended before the prompt did; the last frame: {frames[-1:]}"
    raise AssertionError(message_text)


def executed(frames: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what each output node reported, by node id."""
    return {frame["data"]["node"]: frame["data"]["output"] for frame in frames if frame["type"] == "executed"}


def failure(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of the `execution_error` among `frames`."""
    return next(frame["data"] for frame in frames if frame["type"] == "execution_error")
