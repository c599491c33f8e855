"""RunPod's side of a serverless worker: the routes that RunPod's SDK asks, with jobs of the tests' own.

Wire source: RunPod's SDK 1.12, `rp_job.py`, `rp_http.py`, `rp_ping.py`.
"""

import asyncio
import json
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from aiohttp import web

from support.ports import free_port
from support.web_server import WebServer

TOKEN = "s3cr3t-0f-the-platform"
"""Stands in the query of every URL that the worker is given."""
API_KEY = "rpa_S3CR3TKEY0FTHEW0RKER"
POD_ID = "pod-of-the-test"
Fault = Literal["cut", "page", "broken"] | int


@dataclass
class Ticket:
    """One job, and all that the platform has heard of it."""

    job: dict[str, Any]
    submitted_at: float = field(default_factory=time.perf_counter)
    taken_at: float | None = None
    ended_at: float | None = None
    result: dict[str, Any] | None = None
    """What was posted to job-done at its end."""
    result_count: int = 0
    is_stream: bool = False
    result_bytes: int = 0
    progress: list[dict[str, Any]] = field(default_factory=list)
    late_progress: list[dict[str, Any]] = field(default_factory=list)
    """What came after the result."""
    pieces: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.job["id"])

    @property
    def output(self) -> Any:
        """What its client would see as `output`."""
        assert self.result is not None, f"{self.id} has no result"
        return self.result.get("output")

    @property
    def error(self) -> Any:
        """What its client would see as `error`; None if it is COMPLETED."""
        assert self.result is not None, f"{self.id} has no result"
        return self.result.get("error")


class RunPodPlatform(WebServer):
    """The control plane; an async context manager that listens while it is open."""

    def __init__(self, *, poll_s: float = 20.0, round_trip_s: float = 0.0) -> None:
        """Prepare.

        Args:
            poll_s: Seconds that a question for jobs is held while there are none.
            round_trip_s: Seconds that every answer takes longer, as over a network.
        """
        self.port = free_port()
        self.tickets: dict[str, Ticket] = {}
        self.done_faults: deque[Fault] = deque()
        """What the next results are answered: an HTTP status, or a cut connection; then they are taken."""
        self.take_faults: deque[Fault] = deque()
        """The same for questions for jobs; also a web page, as from a proxy, and JSON that breaks off."""
        self.pings: list[dict[str, str]] = []
        self.asked: list[int] = []
        """How many jobs each question was for."""
        self.polls = 0
        """How many questions for jobs are open now."""
        self.stop_polls = 0
        self.delivered: list[str] = []
        """The jobs whose results are there, in their order; one that stops the pod has `!` behind it."""
        self._poll_s = poll_s
        self._round_trip_s = round_trip_s
        self._queue: deque[Ticket] = deque()
        self._stops: list[str] = []
        self._news = asyncio.Condition()

    def environ(self) -> dict[str, str]:
        """Return the variables that RunPod sets for a worker."""
        base = f"http://127.0.0.1:{self.port}/v2/endpoint-of-the-test"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=cpu&token={TOKEN}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=cpu&token={TOKEN}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=cpu&token={TOKEN}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?token={TOKEN}",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_POD_ID": POD_ID,
            "RUNPOD_ENDPOINT_ID": "endpoint-of-the-test",
            "RUNPOD_AI_API_KEY": API_KEY,
        }

    async def submit(self, workflow: object = None, *, job_id: str | None = None, **more: Any) -> Ticket:
        """Put a job into the queue.

        Args:
            workflow: Goes into its input.
            job_id: Its id; None makes one.
            more: More of its input; what begins with `beside_` stands beside the input, without that.
        """
        return (await self.submit_all([workflow], job_id=job_id, **more))[0]

    async def submit_all(self, workflows: list[Any], *, job_id: str | None = None, **more: Any) -> list[Ticket]:
        """Put jobs into the queue at once."""
        beside = {key.removeprefix("beside_"): value for key, value in more.items() if key.startswith("beside_")}
        inner = {key: value for key, value in more.items() if not key.startswith("beside_")}
        jobs = []
        for workflow in workflows:
            content = {**({} if workflow is None else {"workflow": workflow}), **inner}
            jobs.append({"id": job_id or f"{uuid.uuid4()}-u1", "input": content, **beside})
        return await self.hand_out(jobs)

    async def hand_out(self, jobs: list[dict[str, Any]]) -> list[Ticket]:
        """Put jobs into the queue as they are; of equal ids, the last one's ticket hears of the results."""
        tickets = [Ticket(job) for job in jobs]
        async with self._news:
            self._queue.extend(tickets)
            self.tickets.update({ticket.id: ticket for ticket in tickets})
            self._news.notify_all()
        return tickets

    async def stop(self, ticket: Ticket) -> None:
        """Tell the worker to stop a job, as a client's /cancel does."""
        async with self._news:
            self._stops.append(ticket.id)
            self._news.notify_all()

    async def wait(self, *tickets: Ticket, within_s: float = 180.0) -> None:
        """Wait until these jobs have results."""
        await self.until(lambda: all(ticket.result is not None for ticket in tickets), within_s=within_s)

    async def until(self, condition: Any, *, within_s: float = 180.0) -> None:
        """Wait until something is true of what the platform has heard."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(condition)

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=1024**3)
        for prefix in ("/v2/{endpoint}",):
            app.router.add_get(f"{prefix}/job-take/{{worker}}", self._take)
            app.router.add_get(f"{prefix}/job-take-batch/{{worker}}", self._take)
            app.router.add_get(f"{prefix}/job-stop/{{worker}}", self._take_stops)
            app.router.add_get(f"{prefix}/ping/{{worker}}", self._ping)
            app.router.add_post(f"{prefix}/job-done/{{worker}}/{{job}}", self._done)
            app.router.add_post(f"{prefix}/job-stream/{{worker}}/{{job}}", self._stream)
        return app

    async def _take(self, request: web.Request) -> web.StreamResponse:
        is_batch = "job-take-batch" in request.path
        count = int(request.query["batch_size"]) if is_batch else 1
        self.asked.append(count)
        _check(request)
        if self.take_faults:
            return _faulty(request, self.take_faults.popleft())
        await asyncio.sleep(self._round_trip_s)  # a network's
        self.polls += 1
        await self._tell()
        try:
            async with asyncio.timeout(self._poll_s), self._news:
                await self._news.wait_for(lambda: self._queue)
                taken = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        except TimeoutError:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        finally:
            self.polls -= 1
        for ticket in taken:
            ticket.taken_at = time.perf_counter()
        await self._tell()
        jobs = [ticket.job for ticket in taken]
        return web.json_response(jobs if is_batch else jobs[0])

    async def _take_stops(self, request: web.Request) -> web.Response:
        _check(request)
        self.stop_polls += 1
        try:
            async with asyncio.timeout(self._poll_s), self._news:
                await self._news.wait_for(lambda: self._stops)
                found, self._stops = self._stops, []
        except TimeoutError:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        return web.json_response({"jobsToStop": found})

    async def _ping(self, request: web.Request) -> web.Response:
        _check(request)
        self.pings.append(dict(request.query))
        await self._tell()
        return web.Response()

    async def _done(self, request: web.Request) -> web.StreamResponse:
        _check(request)
        body = await request.read()
        told = json.loads(body)
        ticket = self.tickets[request.match_info["job"]]
        if told.get("status") == "IN_PROGRESS":
            (ticket.progress if ticket.result is None else ticket.late_progress).append(told["output"])
            await self._tell()
            return web.Response()
        if self.done_faults:
            return _faulty(request, self.done_faults.popleft())
        await asyncio.sleep(self._round_trip_s)  # a network's
        ticket.result, ticket.result_bytes = told, len(body)
        ticket.result_count += 1
        ticket.is_stream = request.query["isStream"] == "true"
        ticket.ended_at = time.perf_counter()
        self.delivered.append(ticket.id + ("!" if told.get("stopPod") else ""))
        await self._tell()
        return web.Response()

    async def _stream(self, request: web.Request) -> web.Response:
        _check(request)
        self.tickets[request.match_info["job"]].pieces.append(json.loads(await request.read())["output"])
        await self._tell()
        return web.Response()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


def _check(request: web.Request) -> None:
    assert request.match_info["worker"] == POD_ID
    assert request.query["token"] == TOKEN
    assert request.headers["Authorization"] == API_KEY


def _faulty(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault == "cut":
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    if fault == "page":
        return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
    if fault == "broken":
        return web.Response(text='{"id": "c0ffee", "inp', content_type="application/json")
    return web.Response(status=int(fault))
