"""Comfy API v2's own client library, told what to call; see `tests/clients/comfy_sdk_calls.py`."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.clients import run_client

MODES = ("sync", "async")
"""The library's two clients."""

Step = dict[str, Any]


async def calls(
    url: str, mode: str, steps: Sequence[Step], *, home: Path, api_key: str | None = None
) -> list[dict[str, Any]]:
    """Have the library do `steps` on the server at `url`; return what came of each."""
    told = {"mode": mode, "api_key": api_key, "steps": list(steps)}
    answers: list[dict[str, Any]] = await run_client(
        "comfy_sdk_calls.py", told, home=home, environ={"COMFY_BASE_URL": url}
    )
    return answers


async def returned(url: str, mode: str, steps: Sequence[Step], *, home: Path, api_key: str | None = None) -> list[Any]:
    """Have the library do `steps`, none of which raises; return what each returned."""
    answers = await calls(url, mode, steps, home=home, api_key=api_key)
    assert [answer for answer in answers if "raised" in answer] == []
    return [answer["returned"] for answer in answers]


def step(call: str, **arguments: Any) -> Step:
    """Return one step."""
    return {"call": call, **arguments}


def sent(name: str, data: bytes, filename: str) -> Step:
    """Return the step that makes an asset of bytes."""
    return step("asset", name=name, data=base64.b64encode(data).decode(), filename=filename)
