"""A worker on Vast.ai from its start to its end: rated, broken, mended, drained, and told of all along."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import workflows
from support.command import COMMAND, environment
from support.eventually import eventually
from support.ports import free_port
from support.real_comfyui import FLAGS, Install, RealComfyUI
from support.serving import Serving, get, post
from support.vast_platform import VastPlatform
from support.vast_worker import PLAIN_BENCHMARK, envelope, plain_session, vast_variables, vast_worker


@pytest.fixture
async def platform() -> AsyncIterator[VastPlatform]:
    """Start Vast's platform for one endpoint."""
    async with VastPlatform() as platform:
        yield platform


def events(worker: Serving, name: str) -> list[dict[str, Any]]:
    """Return the log's events of one name."""
    return [event for event in worker.log() if event["event"] == name]


def is_rated(status: dict[str, Any]) -> bool:
    """Whether a report says that the worker is ready."""
    return bool(status["max_perf"] > 0 and status["loadtime"] > 0 and not status["error_msg"])


async def test_the_start_is_told_from_the_first_second(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path
) -> None:
    """The first report comes before the worker is rated; the start's phases are all there; no output stays behind."""
    before = set(comfyui.output_dir.iterdir())
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir)}
    async with vast_worker(comfyui.url, tmp_path / "state", platform, environ=environ) as worker:
        await platform.until_status(is_rated)
        first = platform.statuses[0]
        assert (first["max_perf"], first["loadtime"], first["error_msg"]) == (0.0, 0.0, "")
        [started] = await eventually(lambda: events(worker, "startup.ready"))
        assert {"comfyui", "server", "pubkey", "benchmark"} <= {phase["name"] for phase in started["phases"]}
        [measured] = events(worker, "benchmark.measured")
        assert (measured["workload"], len(measured["runs_s"])) == (400.0, 2)
        assert measured["max_perf"] == pytest.approx(400 / min(measured["runs_s"]), rel=0.5)
        await eventually(lambda: set(comfyui.output_dir.iterdir()) <= before)


async def test_a_score_is_kept_for_the_next_start(comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path) -> None:
    """The same worker is not measured again; with another workflow or a file that is broken it is."""
    state, reported = tmp_path / "state", []
    other = json.loads(json.dumps(PLAIN_BENCHMARK).replace("64", "128"))
    for benchmark in (PLAIN_BENCHMARK, PLAIN_BENCHMARK, other):
        since = len(platform.statuses)
        async with vast_worker(comfyui.url, state, platform, benchmark=benchmark) as worker:
            reported.append((await platform.until_status(is_rated, since=since))["max_perf"])
            measured = len(events(worker, "benchmark.measured"))
            assert measured == (0 if len(reported) == 2 else 1)
    assert reported[0] == reported[1] != reported[2]
    (state / "vast/benchmark.json").write_text('{"format": 1, "scores')
    since = len(platform.statuses)
    async with vast_worker(comfyui.url, state, platform) as worker:
        await platform.until_status(is_rated, since=since)
        assert len(events(worker, "benchmark.measured")) == 1


@pytest.mark.parametrize(
    ("benchmark", "named"),
    [
        pytest.param(workflows.failing("ValueError", "not today"), "not today", id="a node that raises"),
        pytest.param([1, 2], "holds no workflow", id="no workflow"),
    ],
)
async def test_a_benchmark_that_fails_is_told(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path, benchmark: object, named: str
) -> None:
    """Vast hears why; the worker lives on and sends its clients elsewhere."""
    async with (
        vast_worker(comfyui.url, tmp_path / "state", platform, benchmark=benchmark) as worker,
        plain_session(worker) as client,
    ):
        told = await platform.until_status(lambda status: bool(status["error_msg"]))
        assert named in told["error_msg"]
        assert (told["max_perf"], str(tmp_path) in told["error_msg"]) == (0.0, False)
        asked = envelope(platform, {"input": {"workflow_json": workflows.noise()}}, **_at(platform, worker))
        code, answer = await post(client, "/generate/sync", asked)
        assert (code, answer["error_code"]) == (503, "comfyui_unavailable")
        assert (await get(client, "/health"))[0] == 200


def _at(platform: VastPlatform, worker: Serving) -> dict[str, Any]:
    """Return signed auth_data although the platform knows of no ready worker."""
    return platform.signer.auth_data(worker.url, reqnum=900, request_idx=1900)


async def test_text_to_image_is_the_benchmark_by_default(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path
) -> None:
    """Without a file, Text2Image runs on a checkpoint that is there, as large and long as the settings say."""
    environ = {"BENCHMARK_TEST_WIDTH": "64", "BENCHMARK_TEST_HEIGHT": "64", "BENCHMARK_TEST_STEPS": "2"}
    state = tmp_path / "state"
    async with vast_worker(comfyui.url, state, platform, environ=environ, benchmark=None) as worker:
        await platform.until_status(is_rated, within_s=60)
        [measured] = events(worker, "benchmark.measured")
        assert (measured["source"], events(worker, "benchmark.without_model")) == ("Text2Image", [])


async def test_without_a_model_a_plain_picture_rates(
    comfyui_install: Install, comfyui_base: Path, platform: VastPlatform, tmp_path: Path
) -> None:
    """A ComfyUI without checkpoints is rated by a picture; killed, it is told as broken, and then as mended."""
    for checkpoint in (comfyui_base / "models/checkpoints").iterdir():
        checkpoint.unlink()
    environ = own_comfyui(comfyui_install, comfyui_base) | {"VAST_BROKEN_AFTER_S": "0"}
    async with vast_worker(None, tmp_path / "state", platform, environ=environ, benchmark=None) as worker:
        await platform.until_status(is_rated, within_s=120)
        assert len(events(worker, "benchmark.without_model")) == 1
        async with plain_session(worker) as client:
            since = len(platform.statuses)
            killing = envelope(platform, {"input": {"workflow_json": workflows.crash()}})
            code, answer = await post(client, "/generate/sync", killing)
            assert (code, answer["error_code"]) == (502, "comfyui_crashed")
            broken = await platform.until_status(lambda status: bool(status["error_msg"]), since=since)
            assert ("ComfyUI" in broken["error_msg"], broken["max_perf"] > 0) == (True, True)
            await platform.until_status(is_rated, since=len(platform.statuses), within_s=120)
            asked = envelope(platform, {"input": {"workflow_json": workflows.noise()}})
            assert (await post(client, "/generate/sync", asked))[0] == 200
            await platform.until_deleted(2)
            assert [told["status"] for told in platform.deletes] == ["Error", "Success"]


def own_comfyui(install: Install, base_dir: Path) -> dict[str, str]:
    """Return the settings with which a worker starts a ComfyUI of its own."""
    return {
        "COMFYUI_PATH": str(install.path),
        "COMFYUI_PYTHON": str(install.python),
        "COMFYUI_BASE_DIR": str(base_dir),
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": " ".join(FLAGS),
    }


async def test_a_stopped_worker_finishes_what_runs(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path
) -> None:
    """After SIGTERM the job that runs is answered and told, a new one is sent elsewhere, and the command ends well."""
    gate = tmp_path / "gate"
    async with (
        vast_worker(comfyui.url, tmp_path / "state", platform) as worker,
        plain_session(worker) as client,
    ):
        await platform.until_status(is_rated)
        body = {"input": {"workflow_json": workflows.wait(until_file=gate)}}
        asked, late = envelope(platform, body), envelope(platform, body)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(post(client, "/generate/sync", asked))
            index = asked["auth_data"]["request_idx"]
            await platform.until_status(lambda status: index in status["working_request_idxs"])
            worker.process.send_signal(signal.SIGTERM)
            await eventually(lambda: events(worker, "http.draining"))
            code, refused = await post(client, "/generate/sync", late)
            assert (code, refused["error_code"]) == (503, "queue_full")
            gate.touch()
        assert waiting.result()[0] == 200
        assert await worker.stop() == 0
        ends = {told["request_idx"]: told["status"] for told in platform.deletes}
        assert ends == {index: "Success", late["auth_data"]["request_idx"]: "Rejected"}


async def test_a_second_signal_answers_whoever_waits(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path
) -> None:
    """The job is not over: its client is sent elsewhere at once, in words that it reads, and no request is served."""
    async with (
        vast_worker(comfyui.url, tmp_path / "state", platform) as worker,
        plain_session(worker) as client,
    ):
        await platform.until_status(is_rated)
        asked = envelope(platform, {"input": {"workflow_json": workflows.wait(until_file=tmp_path / "never")}})
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(post(client, "/generate/sync", asked))
            await platform.until_status(lambda status: status["num_requests_working"] == 1)
            worker.process.send_signal(signal.SIGTERM)
            await eventually(lambda: events(worker, "http.draining"))
            worker.process.send_signal(signal.SIGTERM)
        code, answer = waiting.result()
        assert (code, answer["status"]) == (503, "pending")
        assert await worker.stop() == 0
        assert [(told["status"], told["success"]) for told in platform.deletes] == [("Error", False)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"USE_SSL": "true", "VAST_CERTIFICATE": "gone.crt"}, "certificate", id="no certificate"),
        pytest.param({}, "cannot listen", id="the port is taken"),
        pytest.param({"COMFYUI_PATH": "nowhere"}, "COMFYUI_PATH", id="no ComfyUI"),
    ],
)
async def test_a_worker_that_cannot_start_says_so(
    comfyui: RealComfyUI, platform: VastPlatform, tmp_path: Path, change: dict[str, str], named: str
) -> None:
    """Vast hears why, once, and the command ends with an error for whoever reads the instance's log."""
    with socket.create_server(("0.0.0.0", 0 if named == "cannot listen" else free_port())) as taken:
        port = taken.getsockname()[1] if named == "cannot listen" else free_port()
        variables = environment() | vast_variables(platform, port) | {"STATE_DIR": str(tmp_path / "state")}
        variables |= {"COMFY_API_URL": comfyui.url} if "COMFYUI_PATH" not in change else {}
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "vast", env=variables | change, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    assert (process.returncode, named in err.decode()) == (1, True), err.decode()
    assert named in platform.statuses[-1]["error_msg"]
    assert str(tmp_path) not in json.dumps(platform.statuses[-1])


async def test_elsewhere_the_command_names_the_other_one(tmp_path: Path) -> None:
    """Without Vast's variables there is one error, which says what to run instead."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "vast", env=environment(), cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert all(word in err.decode() for word in ("REPORT_ADDR", "CONTAINER_ID", "comfyworker serve"))
