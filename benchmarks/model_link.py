"""A host of models behind a link, in a process of its own: `python -m benchmarks.model_link`, its JSON on stdin.

Prints its URL, and serves until stdin ends.
"""

import asyncio
import json
import random
import sys

from support.model_server import Model, ModelServer

MB = 1_000_000


def file_names(count: int) -> list[str]:
    """Return the names of the files that it serves."""
    return [f"model-{number}.safetensors" for number in range(count)]


async def serve(plan: dict[str, float]) -> None:
    """Serve `files` files of `size_mb`, at `link_mb_s` all together and `connection_mb_s` for each connection."""
    async with ModelServer() as server:
        server.link_rate = plan["link_mb_s"] * MB
        for number, name in enumerate(file_names(int(plan["files"]))):
            body = random.Random(number).randbytes(int(plan["size_mb"] * MB))  # no secret
            # The digest is computed now, and not while somebody waits for an answer.
            _ = server.add(name, Model(body, rate=plan["connection_mb_s"] * MB)).etag
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
