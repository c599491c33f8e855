"""`comfyworker test` as its user calls it, on a real ComfyUI: RunPod's answers without RunPod."""

import asyncio
import base64
import io
import json
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from support import workflows
from support.command import COMMAND, Done, call, call_on_terminal, environment, start, stop
from support.eventually import eventually
from support.pipelines import queue_of
from support.real_comfyui import RealComfyUI


def try_(comfyui: RealComfyUI, cwd: Path, *args: str, stdin: object = None, **variables: str) -> Done:
    """Run the command on the shared ComfyUI."""
    content = b"" if stdin is None else orjson.dumps(stdin)
    return call("test", *args, environ=environment(comfyui, **variables), cwd=cwd, stdin=content)


def answers(done: Done) -> list[dict[str, Any]]:
    """Return the documents on stdout, one a line."""
    return [orjson.loads(line) for line in done.out.splitlines()]


def events(done: Done, name: str) -> list[dict[str, Any]]:
    """Return the events of one name that were logged."""
    logged = [json.loads(line) for line in done.err.splitlines()]
    return [event for event in logged if event["event"] == name]


def colour_in(answer: dict[str, Any]) -> Any:
    """Return the colour of the one picture that an answer holds."""
    [image] = answer["output"]["images"]
    return Image.open(io.BytesIO(base64.b64decode(image["data"]))).getpixel((0, 0))


def test_every_form_of_a_job(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Job, input and workflow; file, JSON and standard input: each is answered as RunPod would, in their order."""
    (tmp_path / "job.json").write_bytes(
        orjson.dumps({"id": "mine", "input": {"workflow": workflows.colour((1, 0, 0)), "images": []}})
    )
    (tmp_path / "workflow.json").write_bytes(orjson.dumps(workflows.colour((2, 0, 0))))
    spelled = orjson.dumps({"workflow": workflows.colour((3, 0, 0)), "response_format": "worker-comfyui"}).decode()
    args = [part for name in ("job.json", "workflow.json", spelled, "-") for part in ("--input", name)]
    done = try_(comfyui, tmp_path, *args, stdin={"input": {"workflow": workflows.colour((4, 0, 0))}})
    assert done.code == 0, done.err
    found = answers(done)
    assert [answer["status"] for answer in found] == ["COMPLETED"] * 4
    assert [colour_in(answer)[0] for answer in found] == [1, 2, 3, 4]
    assert found[0]["id"] == "mine"
    assert [set(answer) for answer in found] == [{"id", "status", "delayTime", "executionTime", "output"}] * 4
    assert all(isinstance(answer[key], int) for answer in found for key in ("delayTime", "executionTime"))
    assert ["cold_start" in answer["output"] for answer in found] == [True, False, False, False]
    assert len(events(done, "startup.ready")) == 1


def test_runpods_own_file(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Without an option it is `test_input.json` of the current folder."""
    (tmp_path / "test_input.json").write_bytes(orjson.dumps({"input": {"workflow": workflows.colour((5, 6, 7))}}))
    done = try_(comfyui, tmp_path)
    assert (done.code, colour_in(done.json())) == (0, (5, 6, 7))
    assert [event["source"] for event in events(done, "test.input_chosen")] == ["test_input.json"]


def test_without_any_job_there_is_one(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """It needs no model; the log says that it was taken, and how to name another."""
    done = try_(comfyui, tmp_path)
    assert (done.code, done.json()["status"]) == (0, "COMPLETED")
    [event] = events(done, "test.input_chosen")
    assert "test_input.json" in event["hint"]


def test_a_job_that_fails(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """RunPod has the error beside the output; the exit code is 1, also where another job went well."""
    bad, good = workflows.failing("ValueError", "so it goes"), workflows.colour((1, 2, 3))
    args = [part for graph in (bad, good) for part in ("--input", orjson.dumps(graph).decode())]
    done = try_(comfyui, tmp_path, *args)
    failed, went_well = answers(done)
    assert (done.code, failed["status"], went_well["status"]) == (1, "FAILED", "COMPLETED")
    assert failed["error"] == "Workflow execution error: Node Type: TestRaise, Node ID: 2, Message: so it goes"
    assert failed["output"]["error_code"] == "node_execution_error"
    assert "Traceback" not in done.out


def test_the_platforms_time_limit_holds(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """`policy.executionTimeout` is the deadline, as is the timeout of a Hub project's test."""
    graph = workflows.wait(steps=1, until_file=tmp_path / "never")
    tests = {"tests": [{"name": "too_slow", "input": {"workflow": graph}, "timeout": 300}]}
    (tmp_path / "tests.json").write_bytes(orjson.dumps(tests))
    done = try_(comfyui, tmp_path, "--input", "tests.json")
    answer = done.json()
    assert (done.code, answer["id"], answer["output"]["error_code"]) == (1, "too_slow", "job_timeout")


def test_an_answer_that_runpod_would_drop_is_an_error(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """An answer to /run may have 10 MB; noise cannot be made smaller."""
    done = try_(comfyui, tmp_path, "--input", orjson.dumps(workflows.noise(1700, 1700)).decode())
    answer = done.json()
    assert (done.code, answer["output"]["error_code"]) == (1, "answer_too_large")
    assert len(done.out) < 20_000


def test_a_wrong_job_starts_nothing(tmp_path: Path) -> None:
    """What is wrong in itself is answered at once, in the words that clients know; there is no ComfyUI here."""
    done = call("test", "--input", '{"input": {"images": []}}', environ=environment(), cwd=tmp_path)
    answer = done.json()
    assert (done.code, answer["status"], answer["error"]) == (1, "FAILED", "Missing 'workflow' parameter")


def test_no_comfyui_is_an_answer(tmp_path: Path) -> None:
    """Whoever reads stdout as JSON gets JSON."""
    environ = environment(COMFYUI_PATH=str(tmp_path / "nowhere"))
    done = call("test", environ=environ, cwd=tmp_path)
    answer = done.json()
    assert (done.code, answer["status"], answer["output"]["error_code"]) == (1, "FAILED", "comfyui_not_found")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param("{broken", "--input is not JSON", id="JSON"),
        pytest.param("nowhere.json", "nowhere.json: no such file or directory", id="file"),
    ],
)
def test_what_is_no_job_is_one_clear_error(tmp_path: Path, given: str, message: str) -> None:
    """It names the place and shows the shape; nothing is on stdout."""
    done = call("test", "--input", given, environ=environment(), cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert '{"input": {"workflow": {…}}}' in done.err


def test_files_are_saved_where_that_is_asked_for(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """--output puts them into a folder, and the answer names them instead."""
    done = try_(comfyui, tmp_path, "--input", orjson.dumps(workflows.colour((7, 8, 9))).decode(), "-o", "out")
    [image] = done.json()["output"]["images"]
    assert image["data"] == f"out/{image['filename']}"
    assert Image.open(tmp_path / image["data"]).getpixel((0, 0)) == (7, 8, 9)


def test_a_folder_that_cannot_be_written(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The answer is printed all the same, whole; the exit code says that something went wrong."""
    (tmp_path / "file").touch()
    done = try_(comfyui, tmp_path, "--input", orjson.dumps(workflows.colour((7, 8, 9))).decode(), "-o", "file")
    assert (done.code, colour_in(done.json())) == (1, (7, 8, 9))
    assert "could not be saved in file" in done.err


def test_on_a_terminal_a_person_reads_it(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """No base64 floods it, and the start is drawn as bars."""
    code, shown = call_on_terminal("test", environ=environment(comfyui), cwd=tmp_path)
    assert code == 0
    assert "--output DIR saves the file" in shown
    assert '"status": "COMPLETED"' in shown
    drawn = re.findall(r"(\w+) +│[ █]+│ +[\d.]+ → +[\d.]+ s", shown)
    assert drawn == ["process", "settings", "comfyui", "first_job"]


def test_a_bar_on_the_terminal_takes_nothing_from_a_pipe(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """`comfyworker test | jq` gets the document, whole, while progress is drawn on stderr."""
    line = f"{shlex.join([*COMMAND, 'test'])} > answer.json"
    terminal = ("script", "--quiet", "--return", "--command", line, "/dev/null")
    done = subprocess.run(terminal, env=environment(comfyui), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    [answer] = [orjson.loads(line) for line in (tmp_path / "answer.json").read_bytes().splitlines()]
    assert colour_in(answer) is not None
    assert "█".encode() in done.stdout


@pytest.mark.parametrize(
    "args", [("--test",), ("--test_input", "JSON"), ()], ids=["--test", "--test_input", "MODE_TO_RUN"]
)
def test_start_takes_the_switches_of_images_for_runpod(
    comfyui: RealComfyUI, tmp_path: Path, args: tuple[str, ...]
) -> None:
    """`start --test`, `start --test_input '{…}'` and MODE_TO_RUN=test do the same, on RunPod too."""
    given = orjson.dumps({"workflow": workflows.colour((5, 5, 5)), "response_format": "flux"})
    (tmp_path / "test_input.json").write_bytes(given)
    variables = {"RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take", **({} if args else {"MODE_TO_RUN": "test"})}
    written = [given.decode() if arg == "JSON" else arg for arg in args]
    done = call("start", *written, environ=environment(comfyui, **variables), cwd=tmp_path)
    answer = done.json()
    assert (done.code, answer["status"], answer["output"]["status"]) == (0, "COMPLETED", "success")
    assert len(answer["output"]["images"]) == 1


async def test_ctrl_c_takes_the_job_back(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The job leaves ComfyUI, nothing is printed, and the exit code is 130."""
    graph = workflows.wait(steps=1, until_file=tmp_path / "never")
    (tmp_path / "test_input.json").write_bytes(orjson.dumps({"input": {"workflow": graph}}))
    process = await start("test", environ=environment(comfyui), cwd=tmp_path)

    async def runs() -> bool:
        running, _ = await queue_of(comfyui.url)
        return bool(running)

    await eventually(runs, within_s=60)
    async with asyncio.timeout(60):
        done = await stop(process, signal.SIGINT)
    assert (done.code, done.out) == (130, "")
    assert await queue_of(comfyui.url) == ([], [])
