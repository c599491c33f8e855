"""`comfyworker start` where it finds itself: the host that runs there, and how the start went."""

from pathlib import Path
from typing import Any

import pytest

from support import workflows
from support.command import call, environment
from support.ports import free_port
from support.real_comfyui import Install, RealComfyUI
from support.runpod_platform import RunPodPlatform
from support.runpod_worker import on_comfyui, runpod_worker
from support.serving import Serving, get, post, ready, serving, session
from support.vast_platform import VastPlatform
from support.vast_worker import vast_worker

Spans = dict[str, tuple[float, float]]


def own(base_dir: Path, install: Install) -> dict[str, str]:
    """Return the settings of a worker that starts a ComfyUI of its own."""
    return {
        "COMFYUI_PATH": str(install.path),
        "COMFYUI_PYTHON": str(install.python),
        "COMFYUI_BASE_DIR": str(base_dir),
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": "--cpu --disable-api-nodes",
    }


def job() -> dict[str, Any]:
    """Return a request that takes no time to speak of."""
    return {"input": {"workflow": workflows.colour((1, 2, 3))}}


def spans(cold_start: dict[str, Any]) -> Spans:
    """Return when each phase began and ended."""
    return {phase["name"]: (phase["begun_s"], phase["ended_s"]) for phase in cold_start["phases"]}


def overlap(found: Spans, first: str, second: str) -> bool:
    """Tell whether two phases ran at the same time, if not for long."""
    return found[first][0] < found[second][1] and found[second][0] < found[first][1]


def the_one(log: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the only event of a name."""
    [event] = [event for event in log if event["event"] == name]
    return event


async def samples(server: Serving) -> dict[str, float]:
    """Return what /metrics says of the start, by labels."""
    async with session(server) as client, client.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = "comfyworker_startup_seconds"
    found = [line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(name)]
    return {labels: float(value) for labels, _, value in found}


async def test_in_a_pod_it_serves_http(comfyui_base: Path, comfyui_install: Install, tmp_path: Path) -> None:
    """A pod has no queue. The server comes up while ComfyUI starts; log, first answer and /metrics tell of it."""
    environ = {**own(comfyui_base, comfyui_install), "SERVE_PORT": "0", "RUNPOD_POD_ID": "pod-of-the-test"}
    async with serving(None, tmp_path / "state", environ=environ, command=("start",)) as server:
        async with session(server) as client:
            _, first = await post(client, "/runsync", job())
            _, second = await post(client, "/runsync", job())
            assert (first["status"], second["status"]) == ("COMPLETED", "COMPLETED")
            told = first["output"].pop("cold_start")
            _, again = await get(client, f"/status/{first['id']}")
        assert "cold_start" not in second["output"]
        assert again["output"]["cold_start"] == told
        measured = await samples(server)
    found = spans(told)
    assert set(found) == {"process", "settings", "imports", "comfyui", "server", "first_job"}
    assert overlap(found, "comfyui", "server")
    assert found["server"][1] < found["comfyui"][1] == told["total_s"]
    for name, (begun_s, ended_s) in found.items():
        assert measured[f'{{moment="begun",phase="{name}"}}'] == begun_s
        assert measured[f'{{moment="ended",phase="{name}"}}'] == ended_s
    assert measured['{moment="ended",phase="total"}'] == told["total_s"]
    log = server.log()
    assert the_one(log, "start.host_chosen")["chosen_by"].startswith("RUNPOD_POD_ID without")
    logged = the_one(log, "startup.ready")
    assert logged["phases"] == [phase for phase in told["phases"] if phase["name"] != "first_job"]
    assert the_one(log, "startup.answered")["ready_s"] == told["total_s"]


async def test_before_it_is_ready_metrics_have_what_there_is(comfyui_base: Path, tmp_path: Path) -> None:
    """There is no total of a start that has not ended."""
    environ = {"COMFY_API_URL": f"http://127.0.0.1:{free_port()}", "COMFYUI_BASE_DIR": str(comfyui_base)}
    variables = {**environ, "SERVE_PORT": "0"}
    async with serving(None, tmp_path / "state", environ=variables, command=("start",)) as server:
        measured = await samples(server)
    assert '{moment="ended",phase="process"}' in measured
    assert [labels for labels in measured if "total" in labels or "comfyui" in labels] == []


async def test_on_runpod_serverless_it_takes_jobs(comfyui_base: Path, comfyui_install: Install, tmp_path: Path) -> None:
    """RunPod's variables alone decide, and its SDK is loaded while ComfyUI starts."""
    environ = own(comfyui_base, comfyui_install)
    async with RunPodPlatform() as platform:
        first = await platform.submit(workflows.colour((1, 2, 3)))
        async with runpod_worker(platform, tmp_path / "worker", environ, command="start") as worker:
            await platform.wait(first)
            second = await platform.submit(workflows.colour((1, 2, 3)))
            await platform.wait(second)
        log = worker.log()
    assert the_one(log, "start.host_chosen")["chosen_by"] == "RUNPOD_WEBHOOK_GET_JOB"
    found = spans(first.output["cold_start"])
    assert {"process", "settings", "comfyui", "sdk", "first_job"} <= set(found)
    assert found["comfyui"][0] <= found["sdk"][0]
    assert overlap(found, "comfyui", "sdk")
    assert "cold_start" not in second.output
    assert {phase["name"] for phase in the_one(log, "startup.ready")["phases"]} == set(found) - {"first_job"}


async def test_on_vast_serverless_it_reports(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Vast's variables alone decide; it is ready when its benchmark is done."""
    async with (
        VastPlatform() as platform,
        vast_worker(comfyui.url, tmp_path / "state", platform, command="start") as worker,
    ):
        await platform.until_status(lambda status: status["max_perf"] > 0)
    log = worker.log()
    assert the_one(log, "start.host_chosen")["chosen_by"] == "REPORT_ADDR, MASTER_TOKEN"
    found = spans(the_one(log, "startup.ready"))
    assert {"process", "comfyui", "server", "benchmark"} <= set(found)
    assert found["comfyui"][1] <= found["benchmark"][0]


async def test_worker_host_decides(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """WORKER_HOST=http serves in a RunPod worker; that RunPod waits in vain is a warning."""
    environ = {"WORKER_HOST": "http", "SERVE_PORT": "0", "RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ, command=("start",)) as server:
        await ready(server)
    log = server.log()
    assert the_one(log, "start.host_chosen")["chosen_by"] == "WORKER_HOST"
    assert "RUNPOD_WEBHOOK_GET_JOB" in the_one(log, "start.host_doubtful")["doubt"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        pytest.param(
            {"SERVE_HOST": "0.0.0.0"}, ("[invalid_settings]", "API_KEYS", "SERVE_WITHOUT_KEYS"), id="open to everybody"
        ),
        pytest.param(
            {"RUNPOD_WEBHOOK_GET_JOB": "http://x/", "REPORT_ADDR": "http://y", "MASTER_TOKEN": "s3cr3t-of-vast"},
            ("[invalid_settings]", "RunPod", "Vast.ai", "WORKER_HOST"),
            id="both platforms",
        ),
        pytest.param({"WORKER_HOST": "runpd"}, ("WORKER_HOST", "'runpod', 'vast' or 'http'", "runpd"), id="misspelt"),
        pytest.param(
            {"RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take"}, ("comfyworker[runpod]",), id="without the SDK"
        ),
        pytest.param({"WORKER_HOST": "runpod"}, ("RUNPOD_WEBHOOK_GET_JOB",), id="not on RunPod"),
        pytest.param({"WORKER_HOST": "vast"}, ("REPORT_ADDR", "CONTAINER_ID"), id="not on Vast"),
    ],
)
def test_what_cannot_be_is_one_clear_error(tmp_path: Path, variables: dict[str, str], said: tuple[str, ...]) -> None:
    """It names the variable and what to do; nothing is started, and no secret is repeated."""
    done = call("start", environ=environment(None, COMFY_API_URL="http://127.0.0.1:9", **variables), cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert [part for part in said if part not in done.err] == []
    assert "Traceback" not in done.err
    assert "s3cr3t-of-vast" not in done.err
    assert "comfyui." not in done.err


def test_its_help_has_examples(tmp_path: Path) -> None:
    """Both commands show how they are called."""
    for command in ("start", "test"):
        done = call(command, "--help", environ=environment(), cwd=tmp_path)
        assert (done.code, f"comfyworker {command}" in done.out) == (0, True)


async def test_a_leftover_of_ones_own_machine_opens_nothing(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """SERVE_API_LOCALLY on RunPod is told, and the worker takes jobs all the same."""
    environ = {**on_comfyui(comfyui), "SERVE_API_LOCALLY": "true"}
    async with RunPodPlatform() as platform:
        ticket = await platform.submit(workflows.colour((1, 2, 3)))
        async with runpod_worker(platform, tmp_path / "worker", environ, command="start") as worker:
            await platform.wait(ticket)
        log = worker.log()
    assert "SERVE_API_LOCALLY" in the_one(log, "start.host_doubtful")["doubt"]
