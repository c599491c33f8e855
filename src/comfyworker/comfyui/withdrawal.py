"""Prompts that nobody waits for any more, taken out of a ComfyUI."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from comfyworker.comfyui.client import ComfyUIClient

_POLL_S = 0.05
_QUIET_LOOKS = 2  # a submission that was cut off may still be on its way through ComfyUI
_AGAIN_S = 2.0  # a node may swallow an interrupt, and go on


async def withdraw_prompts(client: ComfyUIClient, is_unwanted: Callable[[str, str], bool]) -> frozenset[str]:
    """Take prompts out of ComfyUI's queue, interrupt the one that runs, and return their ids when all have left it.

    There is no time limit: a node ends when it looks whether it was interrupted.

    Args:
        client: The ComfyUI.
        is_unwanted: Tells from a prompt's id and its client id whether to take it; asked after each look.

    Raises:
        ComfyUIUnreachable: ComfyUI does not answer any more.
    """
    found: set[str] = set()
    interrupted_at: dict[str, float] = {}
    quiet = 0
    while True:
        queue = await client.queue()
        left = {prompt_id for prompt_id, client_id in queue.client_ids.items() if is_unwanted(prompt_id, client_id)}
        found |= left
        quiet = 0 if left else quiet + 1
        if quiet == _QUIET_LOOKS:
            return frozenset(found)
        # Those that wait first: the end of the one that runs would let them begin.
        for prompt_id in left & queue.pending:
            await client.delete_pending(prompt_id)
        for prompt_id in left & queue.running:
            # Not at every look: a ComfyUI that does not know `prompt_id` there interrupts whatever runs by then.
            if time.monotonic() - interrupted_at.get(prompt_id, -math.inf) >= _AGAIN_S:
                await client.interrupt(prompt_id)
                interrupted_at[prompt_id] = time.monotonic()
        await asyncio.sleep(_POLL_S)  # ComfyUI tells only the client that submitted a prompt
