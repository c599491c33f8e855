"""Requests for jobs to a worker on Vast.ai: who is let in, what is answered, and what the platform hears of it."""

import aiohttp
import pytest

from support import workflows
from support.serving import Serving, post
from support.vast_platform import VastPlatform
from support.vast_worker import envelope


def job(workflow: object, **more: object) -> dict[str, object]:
    """Return what a client asks for; `more` goes into its input."""
    return {"input": {"workflow_json": workflow, **more}, "expected_time": 23.0}


async def test_signed_is_served(client: aiohttp.ClientSession, platform: VastPlatform, worker: Serving) -> None:
    """A request that Vast's router has signed is run, and told as served with its workload."""
    code, answer = await post(client, "/generate/sync", envelope(platform, job(workflows.noise())))
    assert (code, answer["status"]) == (200, "completed"), worker.log_text()[-3000:]
    [told] = await platform.until_deleted(1)
    assert (told["status"], told["success"]) == ("Success", True)
