"""RunPod's own client libraries, unchanged, with our server as the endpoint."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import workflows
from support.clients import run_client
from support.serving import Serving

KEY = "key-of-the-tests"
MODES = ("sync", "asyncio")
Steps = list[dict[str, Any]]


@pytest.fixture(scope="module")
def api_key() -> str:
    """Return the key that the server wants."""
    return KEY


async def call(server: Serving, mode: str, steps: Steps, *, home: Path, key: str = KEY) -> list[dict[str, Any]]:
    """Have the library do `steps`."""
    told = {"mode": mode, "key": key, "steps": steps}
    environ = {"RUNPOD_ENDPOINT_BASE_URL": f"{server.url}/v2"}
    answers: list[dict[str, Any]] = await run_client("runpod_calls.py", told, home=home, environ=environ)
    return answers


def run(mode: str, workflow: object, **beside: object) -> dict[str, Any]:
    """Return the step that submits a workflow; the asynchronous library puts `input` around what it is given."""
    job = {"workflow": workflow}
    return {"call": "run", "request": {"input": job, **beside} if mode == "sync" else job}


def pixel(image: dict[str, str]) -> object:
    """Return the first pixel of an entry of `images`."""
    assert image["type"] == "base64"
    return Image.open(io.BytesIO(base64.b64decode(image["data"]))).convert("RGB").getpixel((0, 0))


@pytest.mark.parametrize("mode", MODES)
async def test_a_job_from_submission_to_output(server: Serving, tmp_path: Path, mode: str) -> None:
    """`run`, `status` and `output` work; the output is the dialect's answer, with this job's own picture."""
    steps: Steps = [
        run(mode, workflows.colour((11, 22, 33))),
        {"call": "until", "args": ["COMPLETED", "FAILED"]},
        {"call": "output"},
    ]
    submitted, status, output = await call(server, mode, steps, home=tmp_path)
    assert len(submitted["returned"]) == 36
    assert status["returned"] == "COMPLETED"
    assert set(output["returned"]) - {"cold_start"} == {"images"}  # which the first job after the server's start has
    assert [pixel(image) for image in output["returned"]["images"]] == [(11, 22, 33)]


async def test_run_sync_returns_the_output(server: Serving, tmp_path: Path) -> None:
    """`run_sync` waits and returns the output at once, without asking for the status."""
    request = {"workflow": workflows.colour((1, 200, 3))}
    [answer] = await call(server, "sync", [{"call": "run_sync", "request": request}], home=tmp_path)
    assert [pixel(image) for image in answer["returned"]["images"]] == [(1, 200, 3)]


@pytest.mark.parametrize("mode", MODES)
async def test_the_stream_has_each_file_once(server: Serving, tmp_path: Path, mode: str) -> None:
    """`stream` yields one chunk for each file, and ends when the job has."""
    steps: Steps = [run(mode, workflows.colour((9, 8, 7), batch_size=3)), {"call": "stream"}, {"call": "status"}]
    _, streamed, status = await call(server, mode, steps, home=tmp_path)
    assert [[pixel(image) for image in chunk["images"]] for chunk in streamed["returned"]] == [[(9, 8, 7)]] * 3
    assert status["returned"] == "COMPLETED"


@pytest.mark.parametrize("mode", MODES)
async def test_a_running_job_is_cancelled(server: Serving, tmp_path: Path, mode: str) -> None:
    """`cancel` answers CANCELLED within the library's 3 s, and the job is."""
    steps: Steps = [
        run(mode, workflows.wait(until_file=tmp_path / "never")),
        {"call": "until", "args": ["IN_PROGRESS"]},
        {"call": "cancel"},
        {"call": "until", "args": ["CANCELLED", "COMPLETED", "FAILED"]},
        {"call": "output", "within_s": 5},
    ]
    submitted, _, canceled, status, output = await call(server, mode, steps, home=tmp_path)
    assert canceled["returned"] == {"id": submitted["returned"], "status": "CANCELLED"}
    assert status["returned"] == "CANCELLED"
    assert output["returned"] is None


@pytest.mark.parametrize("mode", MODES)
async def test_a_job_whose_input_is_wrong_fails(server: Serving, tmp_path: Path, mode: str) -> None:
    """The library gets a job all the same, which has FAILED and holds what is wrong beside the output."""
    steps: Steps = [
        run(mode, {"1": {"class_type": "NoSuchNode", "inputs": {}}}),
        {"call": "until", "args": ["FAILED", "COMPLETED"]},
        {"call": "run", "request": {"input": {"images": 7}} if mode == "sync" else {"images": 7}},
        {"call": "status"},
        {"call": "output"},
    ]
    _, unknown, _, shapeless, output = await call(server, mode, steps, home=tmp_path)
    assert (unknown["returned"], shapeless["returned"]) == ("FAILED", "FAILED")
    assert output["returned"]["error_code"] == "invalid_request"


@pytest.mark.parametrize("mode", MODES)
async def test_health_and_an_emptied_queue(server: Serving, tmp_path: Path, mode: str) -> None:
    """`health` counts jobs and ComfyUIs, `purge_queue` takes out those that wait and no others."""
    gate = tmp_path / "gate"
    waiting: Steps = [run(mode, workflows.wait(until_file=gate)) for _ in range(6)]
    steps: Steps = [*waiting, {"call": "health"}, {"call": "purge_queue"}, {"call": "status"}, {"call": "health"}]
    *_, before, purged, status, after = await call(server, mode, steps, home=tmp_path)
    gate.touch()  # or the server would wait for the jobs that run, until it gives them back
    assert set(before["returned"]) == {"jobs", "workers"}
    queued, running = before["returned"]["jobs"]["inQueue"], before["returned"]["jobs"]["inProgress"]
    assert queued > 0
    assert queued + running == 6
    assert purged["returned"] == {"removed": queued, "status": "completed"}
    assert status["returned"] == "CANCELLED"
    assert after["returned"]["jobs"]["inQueue"] == 0
    assert after["returned"]["jobs"]["inProgress"] == running


async def test_a_key_that_is_not_ours(server: Serving, tmp_path: Path) -> None:
    """The library says that the key is wrong, as it does with RunPod."""
    steps: Steps = [run("sync", workflows.colour((1, 1, 1))), {"call": "health"}]
    submitted, health = await call(server, "sync", steps, home=tmp_path, key="another-key")
    assert submitted["raised"][0] == "RuntimeError"
    assert submitted["raised"][1].startswith("401 Unauthorized")
    assert health["raised"] == submitted["raised"]
