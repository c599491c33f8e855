"""Vast's own worker, the SDK's, before a model server: what ours is compared with.

argv: `PORT BENCHMARK_PAYLOAD`, the model server's port and a request as JSON. All else comes from Vast's variables. It
runs in an environment that has Vast's SDK and knows nothing of ours.
"""

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from vastai import (  # type: ignore[import-not-found]  # not installed where mypy runs
    BenchmarkConfig,
    HandlerConfig,
    Worker,
    WorkerConfig,
)


def workload(payload: dict[str, Any]) -> float:
    """Return a request's workload, as the ComfyUI PyWorker of the seed's time counted it."""
    return float(payload.get("expected_time", 46.0)) / 23.0 * 200.0


@contextlib.asynccontextmanager
async def model_is_there() -> AsyncIterator[None]:
    """Say that the model server is up; it is, before this is started."""
    yield


def config(port: int, benchmark: dict[str, Any]) -> Any:
    """Return a worker for the routes that the tests ask for."""
    return WorkerConfig(
        model_server_url="http://127.0.0.1",
        model_server_port=port,
        model_log_file="unused.log",
        lifecycle=model_is_there(),
        max_sessions=1,
        handlers=[
            HandlerConfig(
                route="/generate/sync",
                allow_parallel_requests=True,
                max_queue_time=1.0,
                workload_calculator=workload,
                benchmark_config=BenchmarkConfig(dataset=[benchmark], runs=1, concurrency=1),
            ),
            HandlerConfig(
                route="/generate/stream",
                allow_parallel_requests=True,
                max_queue_time=1.0,
                workload_calculator=workload,
            ),
        ],
    )


if __name__ == "__main__":
    Worker(config(int(sys.argv[1]), json.loads(sys.argv[2]))).run()
