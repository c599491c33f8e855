"""The smallest server of the worker's own libraries: a command, a model, a log, one route; what they take alone."""

import sys

from comfyworker.importing import undisturbed

with undisturbed():  # as the worker imports them
    sys.modules["rich"] = None  # type: ignore[assignment]  # the worker's server does without it, too
    import asyncio
    import base64
    import os
    import socket
    import sqlite3
    from typing import Annotated

    import orjson
    import prometheus_client
    import structlog
    import typer
    import uvicorn
    from pydantic import BaseModel, JsonValue
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


class Job(BaseModel):
    """One request."""

    input: dict[str, JsonValue]


def serve(answer_bytes: Annotated[int, typer.Argument(help="Bytes of each answer.")]) -> None:
    """Answer every job with the same base64, on a free port that is printed."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.get_logger().info("serving", sqlite=sqlite3.sqlite_version)
    jobs = prometheus_client.Counter("jobs", "Jobs that were answered.")
    picture = base64.b64encode(os.urandom(answer_bytes * 3 // 4)).decode()

    async def run(request: Request) -> Response:
        Job.model_validate(orjson.loads(await request.body()))
        jobs.inc()
        return Response(orjson.dumps({"output": picture}), media_type="application/json")

    app = Starlette(routes=[Route("/run", run, methods=["POST"])])
    config = uvicorn.Config(app, loop="asyncio", http="httptools", ws="none", lifespan="off", log_config=None)
    # Not socket.create_server: asyncio would leave Nagle's algorithm on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        sys.stdout.write(f"{bound.getsockname()[1]}\n")
        sys.stdout.flush()
        asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))


if __name__ == "__main__":
    typer.run(serve)
