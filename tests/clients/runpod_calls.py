"""RunPod's own client library at work: reads what to call on stdin, writes what came of it on stdout.

stdin: `{"mode": "sync" | "asyncio", "key": str, "steps": [{"call": name, …arguments}]}`. `run` makes the job that the
later steps are about. stdout: for each step `{"returned": …}` or `{"raised": [class, message]}`.

It runs in the clients' environment, which knows nothing of ours.
"""

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import runpod
from runpod.http_client import AsyncClientSession

ENDPOINT_ID = "local"
POLL_INTERVAL_S = 0.05


class Calls:
    """What both libraries have in common."""

    def __init__(self, endpoint: Any) -> None:
        """Call `endpoint`."""
        self.endpoint = endpoint
        self.job: Any = None

    async def run(self, request: Any) -> str:
        """Submit a job."""
        self.job = await finished(self.endpoint.run(request))
        return str(self.job.job_id)

    async def run_sync(self, request: Any, within_s: int = 60) -> Any:
        """Submit a job and wait for its output; only the synchronous library can."""
        return self.endpoint.run_sync(request, timeout=within_s)

    async def status(self) -> Any:
        """Return the job's status."""
        return await finished(self.job.status())

    async def until(self, *statuses: str) -> Any:
        """Return the job's status as soon as it is one of these."""
        while (status := await self.status()) not in statuses:  # noqa: ASYNC110  # the library offers no event
            await asyncio.sleep(POLL_INTERVAL_S)
        return status

    async def output(self, within_s: int = 60) -> Any:
        """Return the job's output when it has ended."""
        return await finished(self.job.output(timeout=within_s))

    async def stream(self) -> list[Any]:
        """Return all that the job's stream yields."""
        chunks = self.job.stream()
        return [chunk async for chunk in chunks] if inspect.isasyncgen(chunks) else list(chunks)

    async def cancel(self) -> Any:
        """Cancel the job."""
        return await finished(self.job.cancel())

    async def health(self) -> Any:
        """Return the endpoint's health."""
        return await finished(self.endpoint.health())

    async def purge_queue(self) -> Any:
        """Empty the endpoint's queue."""
        return await finished(self.endpoint.purge_queue())


async def finished(value: Any) -> Any:
    """Return what a call of either library returns."""
    return await value if inspect.isawaitable(value) else value


async def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what came of one call, and how long it took."""
    begun = time.monotonic()
    try:
        came = {"returned": await call(*arguments.pop("args", ()), **arguments)}
    except Exception as error:  # noqa: BLE001  # the test judges it
        came = {"raised": [type(error).__name__, str(error)]}
    return {**came, "seconds": time.monotonic() - begun}


async def work(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Do all steps."""
    runpod.api_key = told["key"]
    if told["mode"] == "sync":
        return await steps_of(Calls(runpod.Endpoint(ENDPOINT_ID)), told)
    async with AsyncClientSession() as session:
        return await steps_of(Calls(runpod.AsyncioEndpoint(ENDPOINT_ID, session)), told)


async def steps_of(calls: Calls, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Do the steps one after the other."""
    return [await outcome(getattr(calls, step.pop("call")), step) for step in told["steps"]]


if __name__ == "__main__":
    json.dump(asyncio.run(work(json.load(sys.stdin))), sys.stdout)
