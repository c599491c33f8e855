"""A job on Vast.ai with Vast's own library (`pip install vastai`): route, send, save.

    VAST_API_KEY=... VAST_ENDPOINT=my-endpoint python with_vast.py ../sunset.json

The library finds a worker, signs the request, and sends it again while workers are busy or starting.
"""

import asyncio
import base64
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from vastai import Serverless

TIMEOUT_S = 600
EXPECTED_S = 23.0
"""How long such a job takes: Vast chooses and starts workers by it."""


async def generate(workflow: dict[str, Any]) -> dict[str, Any]:
    """Run a workflow and return the worker's answer; raises RuntimeError with its words when the job failed."""
    payload = {"input": {"workflow_json": workflow, "return_outputs_as_base64": True}, "expected_time": EXPECTED_S}
    where = {
        "autoscaler_url": os.environ.get("VAST_SERVERLESS_URL"),
        "webserver_url": os.environ.get("VAST_URL", "https://console.vast.ai"),
    }
    async with Serverless(api_key=os.environ["VAST_API_KEY"], **where) as client:
        endpoint = await client.get_endpoint(os.environ["VAST_ENDPOINT"])
        # The cost is in the worker's own unit: 200 are the 23 seconds of the workflow that it was made for.
        came = await endpoint.request("/generate/sync", payload, cost=round(EXPECTED_S / 23 * 200), timeout=TIMEOUT_S)
    if not came["ok"]:
        raise RuntimeError(f"HTTP {came['status']}: {came.get('text', '')}")
    return dict(came["response"])


def save(output: list[dict[str, Any]], folder: Path) -> None:
    """Write every file of an answer into `folder`, from base64 or from its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in output:
        path = folder / Path(file["filename"]).name
        if "data" in file:
            path.write_bytes(base64.b64decode(file["data"]))
        else:
            urllib.request.urlretrieve(file["url"], path)
        print(path)


if __name__ == "__main__":
    try:
        answer = asyncio.run(generate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"error: {error}")
    save(answer["output"], Path("out"))
