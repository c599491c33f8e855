"""What `comfyworker test` takes for a job."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfyworker.cli.test_inputs import read_jobs
from comfyworker.errors import InvalidRequest
from support import workflows

GRAPH = workflows.colour((1, 2, 3))
GUI = {"nodes": [], "links": [], "version": 0.4}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def inputs(*given: str) -> list[Any]:
    """Return the `input` of each job."""
    return [job["input"] for job in read_jobs(list(given))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param({"input": {"workflow": GRAPH, "seed": 1}}, {"workflow": GRAPH, "seed": 1}, id="job"),
        pytest.param({"workflow": GRAPH, "prompt": "test"}, {"workflow": GRAPH, "prompt": "test"}, id="input"),
        pytest.param(GRAPH, {"workflow": GRAPH}, id="workflow"),
        pytest.param(GUI, {"workflow": GUI}, id="GUI workflow"),
        pytest.param({"modifier": "Text2Image"}, {"modifier": "Text2Image"}, id="modifier"),
        pytest.param({}, {}, id="nothing"),
        pytest.param({"input": None}, None, id="empty input"),
    ],
)
def test_every_shape_in_every_way(content: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, JSON on the command line, and standard input say the same."""
    text = json.dumps(content)
    Path("job.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert inputs("job.json", text, "-") == [expected] * 3


def test_what_stands_beside_the_input_stays() -> None:
    """The platform's own keys are part of a job."""
    job = {"id": "mine", "input": {}, "policy": {"executionTimeout": 5000}, "s3Config": {}}
    assert read_jobs([json.dumps(job)]) == [job]


def test_a_job_without_an_id_gets_one() -> None:
    """Each a different one, so that object storage keeps both files."""
    first, second = read_jobs(['{"input": {}}', '{"input": {}, "id": null}'])
    assert first["id"] != second["id"]
    assert first["id"].startswith("test-")


def test_the_hubs_tests_are_several_jobs() -> None:
    """Their timeout is RunPod's, in milliseconds."""
    tests = [{"name": "first", "input": {"workflow": GRAPH}, "timeout": 10000}, {"input": {"workflow": GRAPH}}]
    first, second = read_jobs([json.dumps({"tests": tests, "config": {}})])
    assert first == {"id": "first", "input": {"workflow": GRAPH}, "policy": {"executionTimeout": 10000}}
    assert (second["input"], "policy" in second) == ({"workflow": GRAPH}, False)


def test_runpods_file_is_the_usual_job() -> None:
    """As RunPod's SDK has it."""
    Path("test_input.json").write_text('{"input": {"seed": 7}}', encoding="utf-8")
    assert inputs() == [{"seed": 7}]


def test_without_any_there_is_a_job_that_needs_no_model() -> None:
    """It runs on every ComfyUI."""
    ((graph,),) = [job.values() for job in inputs()]
    assert {node["class_type"] for node in graph.values()} == {"EmptyImage", "SaveImage"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(["nowhere.json"], "nowhere.json: no such file or directory", id="no file"),
        pytest.param([""], "--input is empty", id="a variable that is not set"),
        pytest.param(["."], ".: is a directory", id="folder"),
        pytest.param(["a\0b"], "a\0b: it cannot be read", id="no name"),
        pytest.param(["{"], "--input is not JSON: ", id="broken JSON"),
        pytest.param(["[1]"], "--input is no object", id="list"),
        pytest.param(["job.txt"], "job.txt is not JSON: ", id="broken file"),
        pytest.param(["empty.json"], "empty.json is empty", id="empty file"),
        pytest.param(
            ['{"tests": []}'], "--input: `tests` must be a list of objects that have an `input`", id="no tests"
        ),
        pytest.param(['{"tests": [1]}'], "--input: `tests` must be", id="odd tests"),
        pytest.param(["-", "-"], "standard input can only be read once", id="stdin twice"),
    ],
)
def test_what_is_no_job_is_told(given: list[str], message: str) -> None:
    """With its place, and with what it should have been."""
    Path("job.txt").write_text("no json", encoding="utf-8")
    Path("empty.json").touch()
    with pytest.raises(InvalidRequest) as caught:
        read_jobs(given)
    assert caught.value.message.startswith(message)
    assert caught.value.hint
