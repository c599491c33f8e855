"""`comfyworker vast` as a real process, on a free port, with a state folder of its own and Vast's variables."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from support.certificates import Certificate, make_certificate
from support.command import COMMAND, environment
from support.eventually import eventually
from support.ports import free_port
from support.serving import Serving, post
from support.vast_platform import TOKEN, VastPlatform

UP_WITHIN_S = 90.0
CONTAINER_ID = 4711
PLAIN_BENCHMARK = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": "__RANDOM_INT__"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "rated"}},
}
"""A benchmark that is over at once."""
_MARKER = 1 / 1024
"""The workload of jobs by which it is seen how far the reports are; those of tests have whole numbers."""
_MARKER_TIME_S = 23 / 200 * _MARKER


def make_instance_certificate(folder: Path) -> Certificate:
    """Make a certificate as Vast's instances have one."""
    return make_certificate(folder, "127.0.0.1")


def certificate_variables(certificate: Certificate) -> dict[str, str]:
    """Return the settings that have a worker serve with a certificate."""
    return {
        "USE_SSL": "true",
        "VAST_CERTIFICATE": str(certificate.file),
        "VAST_CERTIFICATE_KEY": str(certificate.key_file),
    }


def vast_variables(platform: VastPlatform, port: int) -> dict[str, str]:
    """Return what Vast tells the instance of a worker that listens on `port`."""
    return {
        "REPORT_ADDR": platform.url,
        "MASTER_TOKEN": TOKEN,
        "CONTAINER_ID": str(CONTAINER_ID),
        "PUBLIC_IPADDR": "127.0.0.1",
        "WORKER_PORT": str(port),
        f"VAST_TCP_PORT_{port}": str(port),
    }


@contextlib.asynccontextmanager
async def vast_worker(
    comfyui_url: str | None,
    state_dir: Path,
    platform: VastPlatform | None,
    *,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    benchmark: object = PLAIN_BENCHMARK,
    command: str = "vast",
) -> AsyncIterator[Serving]:
    """Start a worker; it listens when the context begins, and is stopped when that ends.

    Args:
        comfyui_url: The ComfyUI that it uses; None: what `environ` leads to.
        state_dir: Its STATE_DIR.
        platform: Whom it reports to; None: nobody, and requests need not be signed.
        environ: More settings.
        port: WORKER_PORT; None is a free one.
        benchmark: What BENCHMARK_JSON_PATH holds; None leaves it unset.
        command: What starts it.
    """
    port = port or free_port()
    log_path = _new_log(state_dir)
    variables = {"STATE_DIR": str(state_dir), "LOG_FORMAT": "json", "BENCHMARK_RUNS": "2"}
    variables |= {"UNSECURED": "true", "WORKER_PORT": str(port)} if platform is None else vast_variables(platform, port)
    if comfyui_url is not None:
        variables["COMFY_API_URL"] = comfyui_url
    if benchmark is not None:
        variables["BENCHMARK_JSON_PATH"] = str(_written(benchmark, state_dir / "benchmark-of-the-test.json"))
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            command,
            env=environment() | variables | dict(environ or {}),
            cwd=state_dir,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        lines = await _until_up(process, log_path)
        yield Serving(process, lines[0].rpartition(" ")[2], lines, log_path)
        await Serving(process, "", lines, log_path).stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_up(process: asyncio.subprocess.Process, log_path: Path) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(UP_WITHIN_S):
        while line := (await process.stdout.readline()).decode():
            lines.append(line.rstrip("\n"))
            if line.startswith("# Ready when"):
                return lines
    code = await process.wait()
    raise AssertionError(f"the worker ended with {code}:\n{_tail(log_path)}")


def _new_log(state_dir: Path) -> Path:
    """Return a file beside the state folder, for the next worker on it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    count = len(list(state_dir.parent.glob(f"{state_dir.name}-*.log")))
    return state_dir.parent / f"{state_dir.name}-{count}.log"


def _written(value: object, file: Path) -> Path:
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-4000:]


def plain_session(server: Serving, certificate: Certificate | None = None) -> aiohttp.ClientSession:
    """Return a client of the worker, to be closed by who opens it."""
    connector = aiohttp.TCPConnector(ssl=True if certificate is None else certificate.trusting())
    return aiohttp.ClientSession(server.url, connector=connector)


def envelope(platform: VastPlatform, payload: object, *, session: object = None, **auth: Any) -> dict[str, Any]:
    """Return a request as Vast's client sends it, freshly routed; `auth` replaces fields of its auth_data."""
    return {"auth_data": {**platform.route(), **auth}, "session_id": session, "payload": payload}


async def settle(platform: VastPlatform, client: aiohttp.ClientSession, workflow: object) -> None:
    """Have the platform told of all that was, by one more small job, and forget it; its last report is kept."""
    await hear_all(platform, client, workflow)
    await eventually(lambda: any(status["cur_perf"] % 1 == _MARKER for status in platform.statuses), within_s=30)
    await platform.forget()
    platform.arrived[-1].body["cur_perf"] = 0.0  # that was of before


async def hear_all(platform: VastPlatform, client: aiohttp.ClientSession, workflow: object) -> None:
    """Have the platform told of each request that has ended: they are told in order, and one more small job is last."""
    asked = envelope(platform, {"input": {"workflow_json": workflow}, "expected_time": _MARKER_TIME_S})
    index = asked["auth_data"]["request_idx"]
    code, answer = await post(client, "/generate/sync", asked)
    assert code == HTTPStatus.OK, answer
    await eventually(lambda: any(told["request_idx"] == index for told in platform.deletes), within_s=30)
