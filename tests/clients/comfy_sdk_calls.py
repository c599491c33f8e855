"""Comfy API v2's own client library at work: reads what to call on stdin, writes what came of it on stdout.

stdin: `{"mode": "sync" | "async", "api_key": str | null, "steps": [{"call": name, …arguments}]}`. `submit`, `run` and
`rehydrate` make the job that the later steps are about. stdout: for each step `{"returned": …}`, or `{"raised": {…}}`.

It runs in the clients' environment, which knows nothing of ours; COMFY_BASE_URL says where the server is.
"""

import asyncio
import base64
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from comfy_sdk import AsyncComfy, Comfy  # type: ignore[import-not-found]  # not installed where mypy runs
from comfy_sdk.events import OutputReady, Preview  # type: ignore[import-not-found]  # not installed where mypy runs


class Calls:
    """What both libraries have in common."""

    def __init__(self, client: Any) -> None:
        """Call through `client`."""
        self.client = client
        self.job: Any = None
        self.assets: dict[str, Any] = {}

    def workflow(self, graph: dict[str, Any], assets: dict[str, str] | None = None) -> Any:
        """Return a workflow; `assets` maps `node.field` to the name of an asset."""
        made = self.client.workflows.from_json(graph)
        for place, name in (assets or {}).items():
            node_id, _, field = place.partition(".")
            made.set_input(node_id, field, self.assets[name])
        return made

    async def submit(self, graph: dict[str, Any], assets: dict[str, str] | None = None, **more: Any) -> str:
        """Submit a job and return its id."""
        self.job = await finished(self.client.submit(self.workflow(graph, assets), **more))
        return str(self.job.id)

    async def run(self, graph: dict[str, Any], assets: dict[str, str] | None = None, **more: Any) -> str:
        """Submit a job, and return its id when it has succeeded."""
        self.job = await finished(self.client.run(self.workflow(graph, assets), **more))
        return str(self.job.id)

    async def rehydrate(self, job_id: str) -> str:
        """Take up a job by its id; return its status."""
        self.job = await finished(self.client.jobs.get(job_id))
        return str(self.job.status)

    async def refresh(self) -> str:
        """Return the job's status as it is now."""
        return str((await finished(self.job.refresh())).status)

    async def until(self, status: str) -> None:
        """Wait until the job has a status."""
        while await self.refresh() != status:  # noqa: ASYNC110  # the library offers no event
            await asyncio.sleep(0.05)

    async def wait(self, within_s: float = 60.0) -> str:
        """Return the job's status when it has ended."""
        return str((await finished(self.job.wait(timeout=within_s))).status)

    async def result(self) -> str:
        """Return the job's status when it has succeeded."""
        return str((await finished(self.job.result())).status)

    async def cancel(self) -> str:
        """Cancel the job; return its status."""
        return str((await finished(self.job.cancel())).status)

    async def events(self) -> list[dict[str, Any]]:
        """Return all events of the job, up to its end."""
        stream = self.job.events()
        if inspect.isasyncgen(stream):
            return [told(event) async for event in stream]
        return [told(event) for event in stream]

    async def error(self) -> dict[str, Any] | None:
        """Return the job's error."""
        found = self.job.error
        return None if found is None else dict(found.model_dump(mode="json"))

    async def outputs(self) -> list[dict[str, Any]]:
        """Return the job's outputs with their bytes."""
        return [
            {**described(output), "data": base64.b64encode(await finished(output.to_bytes())).decode()}
            for output in self.job.outputs
        ]

    async def slice(self, first: int, last: int) -> str:
        """Return some bytes of the job's first output, as base64."""
        return base64.b64encode(await finished(self.job.outputs[0].to_bytes(range=(first, last)))).decode()

    async def save(self, path: str) -> None:
        """Write the job's first output into a file."""
        await finished(self.job.outputs[0].to_file(path))

    async def download_url(self) -> str:
        """Return where the job's first output is."""
        return str((await finished(self.job.outputs[0].get_download_url())).url)

    async def graph(self) -> list[Any]:
        """Return the job's workflow and its format."""
        found = await finished(self.job.get_workflow())
        return [found.graph, found.format]

    async def labels(self) -> dict[str, str]:
        """Return the job's labels."""
        return dict(self.job.metadata)

    async def list_jobs(self, **filters: Any) -> list[list[Any]]:
        """Return ids, statuses and labels of the jobs that there are."""
        found: Any = self.client.list_jobs(**filters)
        jobs: list[Any] = [job async for job in found] if inspect.isasyncgen(found) else list(found)
        return [[job.id, job.status, job.metadata, job.create_time is not None] for job in jobs]

    async def asset(self, name: str, data: str, filename: str) -> None:
        """Make an asset of bytes; nothing is sent before it is used."""
        self.assets[name] = self.client.assets.from_bytes(base64.b64decode(data), filename=filename)

    async def asset_of_file(self, name: str, path: str) -> None:
        """Make an asset of a file."""
        self.assets[name] = self.client.assets.from_file(path)

    async def commit(self, name: str) -> dict[str, Any]:
        """Bring an asset to the server, if it is not there."""
        asset = self.assets[name]
        await finished(asset.commit())
        return {"id": asset.id, "hash": asset.hash, "created_new": asset.created_new, "file_path": asset.file_path}

    async def asset_url(self, name: str) -> str:
        """Return where an asset's bytes are."""
        return str((await finished(self.assets[name].get_download_url())).url)

    async def get_asset(self, asset_id: str) -> dict[str, Any]:
        """Return an asset by its id."""
        found = await finished(self.client.assets.get(asset_id))
        return {"id": found.id, "hash": found.hash, "file_path": found.file_path, "job_id": found.job_id}

    async def delete_asset(self, asset_id: str) -> None:
        """Delete an asset."""
        await finished(self.client.assets.delete(asset_id))


async def finished(value: Any) -> Any:
    """Return what a call of either library returns."""
    return await value if inspect.isawaitable(value) else value


def described(output: Any) -> dict[str, Any]:
    """Return what an output is."""
    keys = ("node_id", "name", "type", "id", "size_bytes", "content_type", "job_id")
    return {key: getattr(output, key) for key in keys}


def told(event: Any) -> dict[str, Any]:
    """Return an event as JSON."""
    if isinstance(event, OutputReady):
        return {"event": "OutputReady", **described(event.output)}
    if isinstance(event, Preview):
        data = base64.b64encode(event.data).decode()
        return {"event": "Preview", "node_id": event.node_id, "content_type": event.content_type, "data": data}
    return {"event": type(event).__name__, **vars(event)}


async def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what came of one call."""
    try:
        return {"returned": await call(**arguments)}
    except Exception as error:  # noqa: BLE001  # the test judges it
        named = {key: getattr(error, key, None) for key in ("code", "http_status", "details", "retry_after")}
        job_error = getattr(error, "error", None)
        found = None if job_error is None else job_error.model_dump(mode="json")
        return {"raised": {"class": type(error).__name__, "message": str(error), "error": found, **named}}


async def work(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Do all steps."""
    if given["mode"] == "sync":
        with Comfy(api_key=given["api_key"]) as client:
            return await steps_of(Calls(client), given)
    async with AsyncComfy(api_key=given["api_key"]) as client:
        return await steps_of(Calls(client), given)


async def steps_of(calls: Calls, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Do the steps one after the other."""
    return [await outcome(getattr(calls, step.pop("call")), step) for step in given["steps"]]


if __name__ == "__main__":
    json.dump(asyncio.run(work(json.load(sys.stdin))), sys.stdout)
