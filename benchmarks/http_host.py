"""What the HTTP host adds to a job, and how many requests it answers; beside comfy-api-proxy, with the same client."""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from benchmarks.ground import Ground
from benchmarks.processes import REPOSITORY, clean_environ
from benchmarks.report import Row
from support.eventually import eventually
from support.load import CLIENTS, play, probing
from support.load import JOBS as LOAD_JOBS
from support.ports import free_port
from support.serving import Serving, serving
from support.workflows import noise, wait

ROUNDS = 100
WARM_UPS = 3
ADDED_BUDGET_MS = 3.0
START_ROUNDS = 10
START_BUDGET_MS = 400.0
HEALTH_BUDGET_MS = 50.0
HEALTH_REST_S = 5.0
SYNCS = 50
SUBMITS = 400
ASKS = 2000
CONNECTIONS = 8
BARE_ANSWER_BYTES = 17_000
PAUSE_S = 0.01
"""Between two requests, as while ComfyUI executes: processors that rest take a moment to wake."""
PROXY = "comfy-api-proxy==0.1.6"
JOBS = "/api/v2/jobs"

Ask = Callable[[int], Awaitable[None]]


async def measure_http_host(ground: Ground) -> list[Row]:
    """Measure the server's start, /runsync beside the bare pipeline, and requests in a second beside the proxy."""
    with tempfile.TemporaryDirectory(prefix="comfyworker-http-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        start = await _measure_start(ground, state / "start")
        alone = await _measure_alone(ground)
        async with _served(ground, state / "loaded") as server:
            health = await _measure_health(ground, server)
        async with _served(ground, state / "state") as server:
            url = server.url
            added = [
                await _measure_added(ground, url, size, budget_ms)
                for size, budget_ms in ((64, ADDED_BUDGET_MS), (512, None))
            ]
            ours = await _measure_rates(ground, url, state / "gate-ours")
        async with _proxied(ground, state / "proxy") as url:
            theirs = await _measure_rates(ground, url, state / "gate-theirs")
    return [start, *added, alone, health, *(_rate_row(name, ours[name], theirs[name]) for name in ours)]


@contextlib.asynccontextmanager
async def _served(ground: Ground, state: Path) -> AsyncIterator[Serving]:
    environ = {
        "COMFYUI_BASE_DIR": str(ground.comfyui.base_dir),
        "QUEUE_MAX": str(2 * SUBMITS),
        "LOG_LEVEL": "warning",
    }
    async with serving(ground.comfyui.url, state, environ=environ) as server:
        async with aiohttp.ClientSession(server.url) as session:
            await eventually(lambda: _answers(session, "/ready"), within_s=60)
        yield server


@contextlib.asynccontextmanager
async def _proxied(ground: Ground, state: Path) -> AsyncIterator[str]:
    """Serve the same ComfyUI by the proxy, which uv installs into its own cache the first time."""
    ground.say(f"starting {PROXY}")
    port, uv = free_port(), str(Path(sys.executable).with_name("uv"))
    told = ("--comfyui", ground.comfyui.url, "--port", str(port), "--state-dir", str(state))
    process = await asyncio.create_subprocess_exec(
        *(uv, "tool", "run", "--from", PROXY, "comfy-api-proxy", "run", *told),
        env=clean_environ(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await eventually(lambda: _answers(session, "/api/v2/health"), within_s=120, interval_s=0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)  # uv, and the proxy below it
        await process.wait()


async def _answers(session: aiohttp.ClientSession, path: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(path) as response:
            return response.status == 200
    return False


async def _measure_start(ground: Ground, state: Path) -> Row:
    rounds = ground.rounds_or(START_ROUNDS)
    ground.say(f"start of the server (rounds: {rounds})")
    bare_ms, ours_ms = [], []
    for _ in range(rounds):
        bare_ms.append(await _start_bare())
        ours_ms.append(await _start_once(ground, state))
    return Row(
        name="http.start",
        what="comfyworker serve with ComfyUI up, to the first accepted job; the floor is the smallest server of the "
        "same libraries, p50",
        unit="ms",
        floor=statistics.median(bare_ms),
        ours=statistics.median(ours_ms),
        budget=START_BUDGET_MS,
        rule=f"{START_BUDGET_MS:g} ms",
        rounds=rounds,
    )


@contextlib.asynccontextmanager
async def _bare_server() -> AsyncIterator[str]:
    """Serve what answers every job with as much as a picture of 64² takes; give its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.bare_server", str(BARE_ANSWER_BYTES)),
        cwd=REPOSITORY,
        env=clean_environ(),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()


async def _start_bare() -> float:
    begun_at = time.perf_counter()
    async with _bare_server() as url, aiohttp.ClientSession(url) as session:
        await _post(session, "/run", {"input": {"workflow": noise(8, 8)}})
        return 1000 * (time.perf_counter() - begun_at)


async def _measure_alone(ground: Ground) -> Row:
    """Ask as /runsync is asked, and get an answer of the same size, with nothing behind it."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"time that HTTP takes alone (rounds: {rounds})")
    spent_ms = []
    async with _bare_server() as url, aiohttp.ClientSession(url) as session:
        for number in range(-WARM_UPS, rounds):
            await asyncio.sleep(PAUSE_S)
            begun_at = time.perf_counter()
            await _post(session, "/run", {"input": {"workflow": noise(64, 64)}})
            if number >= 0:
                spent_ms.append(1000 * (time.perf_counter() - begun_at))
    return Row(
        name="http.alone",
        what="a request and an answer of the same sizes by the smallest server of the same libraries, p50",
        unit="ms",
        floor=None,
        ours=statistics.median(spent_ms),
        rounds=rounds,
    )


async def _start_once(ground: Ground, state: Path) -> float:
    begun_at = time.perf_counter()
    async with (
        serving(ground.comfyui.url, state, environ={"LOG_LEVEL": "warning"}) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        await _post(session, "/run", {"input": {"workflow": noise(8, 8)}})
        spent_ms = 1000 * (time.perf_counter() - begun_at)
        await eventually(lambda: _is_idle(session), within_s=30)
    return spent_ms


async def _is_idle(session: aiohttp.ClientSession) -> bool:
    async with session.get("/health") as response:
        jobs = (await response.json())["jobs"]
    return bool(jobs["inProgress"] + jobs["inQueue"] == 0)


async def _measure_added(ground: Ground, url: str, size: int, budget_ms: float | None) -> Row:
    """Run jobs in turns by the pipeline alone and over HTTP; the answer with its base64 is there at the end of both."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"time that /runsync adds to the pipeline, {size}² (rounds: {rounds})")
    bare_ms, served_ms = [], []
    async with aiohttp.ClientSession(url) as session:
        for number in range(-WARM_UPS, rounds):
            begun_at = time.perf_counter()
            answer = await ground.worker.run(noise(size, size))
            between = time.perf_counter()
            served = await _post(session, "/runsync", {"input": {"workflow": noise(size, size)}})
            ended_at = time.perf_counter()
            ground.check([*answer.pictures, *(image["data"] for image in served["output"]["images"])], 2)
            if number >= 0:
                bare_ms.append(1000 * (between - begun_at))
                served_ms.append(1000 * (ended_at - between))
    floor = statistics.median(bare_ms)
    return Row(
        name=f"http.runsync_{size}",
        what=f"a {size}² noise picture by /runsync; the floor is the bare pipeline, p50",
        unit="ms",
        floor=floor,
        ours=statistics.median(served_ms),
        budget=None if budget_ms is None else floor + budget_ms,
        rule="" if budget_ms is None else f"the floor + {budget_ms:g} ms",
        rounds=rounds,
        details={"sync_to_disk_p50_ms": await asyncio.to_thread(_sync_ms)},
    )


async def _measure_health(ground: Ground, server: Serving) -> Row:
    """Ask for /health from a process of its own, while the server rests and while fifty clients are at it."""
    ground.say(f"/health while {CLIENTS} clients give {LOAD_JOBS} jobs")
    at_rest_s: list[float] = []
    async with probing(server, at_rest_s):
        await asyncio.sleep(HEALTH_REST_S)
    load = await play(server)
    return Row(
        name="http.health",
        what=f"/health while {CLIENTS} clients give {LOAD_JOBS} jobs at once; the floor is the same at rest, p99",
        unit="ms",
        floor=_p99_ms(at_rest_s),
        ours=_p99_ms(load.health_s),
        budget=HEALTH_BUDGET_MS,
        rule=f"{HEALTH_BUDGET_MS:g} ms",
        rounds=len(load.health_s),
        details={"p50_ms": 1000 * statistics.median(load.health_s), "max_ms": 1000 * max(load.health_s)},
    )


def _p99_ms(took_s: list[float]) -> float:
    return 1000 * statistics.quantiles(took_s, n=100)[98]


def _sync_ms() -> float:
    """Return how long this machine's disk takes to make 4 KB durable: who is told that a job was taken waits for it."""
    spent_ms = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            begun_at = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            spent_ms.append(1000 * (time.perf_counter() - begun_at))
    return statistics.median(spent_ms)


async def _measure_rates(ground: Ground, url: str, gate: Path) -> dict[str, float]:
    """Submit jobs behind one that blocks ComfyUI, and ask for them: no execution takes part."""
    ground.say(f"requests in a second at {url}")
    ids: list[str] = []
    graphs = [noise(8, 8) for _ in range(SUBMITS)]
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        await _post(session, JOBS, {"workflow": wait(until_file=gate)})

        async def submit(number: int) -> None:
            ids.append((await _post(session, JOBS, {"workflow": graphs[number]}))["id"])

        async def ask(number: int) -> None:
            async with session.get(f"{JOBS}/{ids[number % len(ids)]}") as response:
                await _read(response)

        try:
            rates = {"submit": await _rate(submit, SUBMITS), "status": await _rate(ask, ASKS)}
            for job_id in ids:
                await _post(session, f"{JOBS}/{job_id}/cancel", None)
        finally:
            await asyncio.to_thread(gate.touch)
            await _clear(ground)
    return rates


async def _rate(ask: Ask, count: int) -> float:
    """Return how many requests were answered in a second, by as many clients as there are connections."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await ask(number)

    begun_at = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(client())
    return count / (time.perf_counter() - begun_at)


async def _clear(ground: Ground) -> None:
    """Leave ComfyUI idle for whoever comes next."""
    async with ground.session.post(f"{ground.comfyui.url}/queue", json={"clear": True}):
        pass
    await eventually(lambda: _has_nothing_to_do(ground), within_s=60, interval_s=0.1)


async def _has_nothing_to_do(ground: Ground) -> bool:
    async with ground.session.get(f"{ground.comfyui.url}/queue") as response:
        queue = await response.json()
    return not queue["queue_running"] and not queue["queue_pending"]


async def _post(session: aiohttp.ClientSession, path: str, body: dict[str, object] | None) -> dict[str, Any]:
    async with session.post(path, json=body) as response:
        return await _read(response)


async def _read(response: aiohttp.ClientResponse) -> dict[str, Any]:
    text = await response.read()
    if response.status >= 300:
        message = f"{response.url.path} answered {response.status}: {text[:300]!r}"
        raise RuntimeError(message)
    return dict(orjson.loads(text)) if text else {}


def _rate_row(name: str, ours: float, theirs: float) -> Row:
    words = {"submit": "jobs submitted", "status": "jobs asked for"}
    return Row(
        name=f"http.{name}",
        what=f"{words[name]} over Comfy API v2 by {CONNECTIONS} clients; the floor is {PROXY.replace('==', ' ')}",
        unit="a second",
        floor=theirs,
        ours=ours,
        is_more_better=True,
        rounds=SUBMITS if name == "submit" else ASKS,
    )
