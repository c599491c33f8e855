"""Vast's own client library at work: reads calls on stdin, a JSON object a line, and writes what came of each.

The first line is `{"platform": URL, "key": str, "endpoint": name}`, each other one `{"id": n, "call": name,
…arguments}`. Calls run side by side. For each there comes a line `{"id": n, "returned": …}` or
`{"id": n, "raised": [class, message]}`.

It runs in an environment that has Vast's SDK and knows nothing of ours.
"""

import asyncio
import json
import sys
from typing import Any

from vastai import Serverless  # type: ignore[import-not-found]  # not installed where mypy runs

LONGEST_LINE = 2**28


class Calls:
    """What a test may call."""

    def __init__(self, endpoint: Any) -> None:
        """Call `endpoint`."""
        self.endpoint = endpoint
        self.sessions: list[Any] = []
        self.running: dict[int, asyncio.Task[None]] = {}

    async def request(self, route: str, payload: Any, **more: Any) -> Any:
        """Send a request to a worker, as /route/ says."""
        return await self.endpoint.request(route, payload, **more)

    async def stream(self, route: str, payload: Any, **more: Any) -> Any:
        """Send a request whose answer is a stream; return all that it brought."""
        came = await self.endpoint.request(route, payload, stream=True, **more)
        events = [event async for event in came.pop("response")] if came["ok"] else []
        return {**came, "events": events}

    async def open_session(self, **more: Any) -> Any:
        """Open a session; later calls name it by the number that is returned."""
        session = await self.endpoint.session(**more)
        self.sessions.append(session)
        return {"number": len(self.sessions) - 1, "id": session.session_id, "auth_data": session.auth_data}

    async def session_request(self, number: int, route: str, payload: Any, **more: Any) -> Any:
        """Send a request within a session."""
        return await self.sessions[number].request(route, payload, **more)

    async def is_open(self, number: int) -> bool:
        """Ask the worker whether a session is open."""
        return bool(await self.sessions[number].is_open())

    async def get_session(self, number: int) -> Any:
        """Ask the worker for a session anew."""
        known = self.sessions[number]
        found = await self.endpoint.get_session(known.session_id, known.auth_data)
        return {"lifetime": found.lifetime, "url": found.url, "auth_data": found.auth_data}

    async def close_session(self, number: int) -> None:
        """End a session."""
        await self.endpoint.close_session(self.sessions[number])

    async def cancel(self, of: int) -> None:
        """Give up a call that runs."""
        self.running[of].cancel()


def write(line: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(line, default=repr) + "\n")
    sys.stdout.flush()


async def answer(calls: Calls, call_id: int, name: str, arguments: dict[str, Any]) -> None:
    """Do one call and write what came of it."""
    try:
        write({"id": call_id, "returned": await getattr(calls, name)(**arguments)})
    except asyncio.CancelledError:
        write({"id": call_id, "raised": ["CancelledError", ""]})
        raise
    except Exception as error:  # noqa: BLE001  # the test judges it
        write({"id": call_id, "raised": [type(error).__name__, str(error)]})


async def main() -> None:
    """Do all calls until stdin ends."""
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    told = json.loads(await lines.readline())
    Serverless.SSL_CERT_URL = told["platform"] + "/static/jvastai_root.cer"
    client = Serverless(
        api_key=told["key"],
        autoscaler_url=told["platform"],
        webserver_url=told["platform"],
        max_poll_interval=0.3,
    )
    async with client, asyncio.TaskGroup() as group:
        calls = Calls(await client.get_endpoint(told["endpoint"]))
        write({"id": 0, "returned": None})
        while line := await lines.readline():
            call = json.loads(line)
            call_id, name = call.pop("id"), call.pop("call")
            calls.running[call_id] = group.create_task(answer(calls, call_id, name, call))


if __name__ == "__main__":
    asyncio.run(main())
