"""A worker that copies models and does nothing else, in a process of its own: its plan is one JSON argument.

It wants each model as a job would, and prints each event of the log as a line of JSON when it happens. With `pauses`,
it stops after the first window of a file until it is killed.
"""

import asyncio
import json
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from comfyworker.prefetch import transfer
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.prefetch import Hints, ModelPrefetch
from comfyworker.prefetch.recent import RecentModels
from comfyworker.settings import load_settings
from support.model_files import order_on

WINDOW_BYTES = 1 << 20


def tell(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Print an event, at once."""
    print(json.dumps(event), flush=True)
    raise structlog.DropEvent


async def main(plan: dict[str, Any]) -> None:
    """Copy the models of a plan."""
    for name, size_bytes in (("PIECE_BYTES", WINDOW_BYTES // transfer.READERS), ("WINDOW_BYTES", WINDOW_BYTES)):
        setattr(transfer, name, size_bytes)  # so that small files have several windows
    structlog.configure(processors=[tell])
    order = order_on(Path(plan["volume"]))
    copies = LocalCopies(Path(plan["cache"]), most_bytes=plan["most_bytes"], spare_bytes=plan["spare_bytes"])
    hints = Hints(recent=RecentModels(list), of_config=lambda: (), sha256_of=lambda _file: None)
    settings = load_settings({"LOCAL_MODEL_CACHE_GB": "1"}).volume
    prefetch = ModelPrefetch(settings, hints, copies=copies)
    copies.open(order)
    prefetch.begin_with(order)
    if plan.get("pauses"):
        _pause_after_first_window()
    thread = threading.Thread(target=prefetch.work)
    thread.start()
    try:
        for name in plan["models"]:
            graph = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}}
            file, read_bytes = order.find("checkpoints", name), prefetch.figures.read_bytes
            async with prefetch.wanted(graph):
                while file is not None and not copies.has(file):
                    if prefetch.figures.read_bytes - read_bytes >= file.size_bytes:
                        break
                    await asyncio.sleep(0.005)  # a process of its own: nothing tells it
    finally:
        prefetch.stop()
        thread.join()


def _pause_after_first_window() -> None:
    step = transfer.Transfer.step

    def pausing(self: transfer.Transfer) -> bool:
        step(self)
        tell_paused = {"event": "test.paused", "done_bytes": self.done_bytes}
        print(json.dumps(tell_paused), flush=True)
        threading.Event().wait()
        return False

    transfer.Transfer.step = pausing  # type: ignore[method-assign]  # the moment to be killed at


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
