"""Which workflow a worker is rated by, and that no two runs of it are the same."""

import json
from pathlib import Path
from typing import cast

import pytest

from comfyworker.errors import InvalidSettings
from comfyworker.hosts.vast.benchmark_workflow import Benchmark, find_benchmark, with_fresh_seeds
from comfyworker.pipeline import Pipeline
from comfyworker.settings import load_settings
from comfyworker.workflow.node_classes import NodeClasses

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "model": ["4", 0]}},
    "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": 8}},
    "6": {"class_type": "KSampler", "inputs": {"seed": ["5", 0]}},
}


async def found(cwd: Path, **variables: str) -> Benchmark:
    """Return the benchmark of a worker in `cwd`, where a file decides."""
    nobody = cast("Pipeline", None)  # nothing is asked of it where there is a file
    return await find_benchmark(load_settings(variables), nobody, NodeClasses({}), cwd=cwd)


def test_fixed_seeds_are_drawn_anew() -> None:
    """Seeds become placeholders, links and all else stay; the graph that came is left as it was."""
    before = json.dumps(GRAPH)
    fresh = with_fresh_seeds(json.loads(before))
    assert isinstance(fresh, dict)
    assert [node["inputs"] for node in fresh.values()] == [  # type: ignore[call-overload, index]  # JSON
        {"seed": "__RANDOM_INT__", "steps": 20, "model": ["4", 0]},
        {"noise_seed": "__RANDOM_INT__"},
        {"seed": ["5", 0]},
    ]
    assert json.dumps(GRAPH) == before


async def test_the_named_file_beats_the_one_that_lies_there(tmp_path: Path) -> None:
    """BENCHMARK_JSON_PATH first, then misc/benchmark.json; a whole request says how much workload a run is."""
    (tmp_path / "misc").mkdir()
    (tmp_path / "misc/benchmark.json").write_text(json.dumps({"input": {"workflow_json": GRAPH}, "expected_time": 23}))
    (tmp_path / "mine.json").write_text(json.dumps(GRAPH))
    named, lying = await found(tmp_path, BENCHMARK_JSON_PATH="mine.json"), await found(tmp_path)
    assert (named.source, named.workload, named.changes) == ("BENCHMARK_JSON_PATH", 400.0, True)
    assert (lying.source, lying.workload, lying.changes) == ("misc/benchmark.json", 200.0, True)
    request = lying.make_request()
    assert (request.workflow or {})["3"]["inputs"]["seed"] == "__RANDOM_INT__"
    assert request.id != lying.make_request().id


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"modifier": "Text2Image", "modifications": {"prompt": "a", "seed": 42}}, id="a modifier's"),
        pytest.param({"workflow_json": {"1": {"class_type": "A", "inputs": {}}}, "seed": 42}, id="the shortcut"),
    ],
)
async def test_the_seed_of_a_request_is_drawn_anew(tmp_path: Path, asked: dict[str, object]) -> None:
    """A request as the PyWorker's README shows it has a fixed seed beside the workflow."""
    (tmp_path / "mine.json").write_text(json.dumps({"input": asked}))
    benchmark = await found(tmp_path, BENCHMARK_JSON_PATH="mine.json")
    assert benchmark.changes
    assert "42" not in json.dumps(benchmark.body)
    assert benchmark.make_request().id


async def test_a_workflow_in_which_nothing_changes_is_known(tmp_path: Path) -> None:
    """ComfyUI would answer it from its cache: the measuring warns of it."""
    file = tmp_path / "still.json"
    file.write_text(json.dumps({"1": {"class_type": "EmptyImage", "inputs": {"color": 3}}}))
    assert not (await found(tmp_path, BENCHMARK_JSON_PATH=str(file))).changes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "holds no workflow"),
        ('{"input": {}}', "is no job: input has no workflow"),
        ('{"input": []}', "is no job: input must be an object"),
        ('{"1": {"class_type": "A", "inputs": {"x": ' + "[" * 300 + "]" * 300 + "}}}", "is nested too deeply"),
    ],
    ids=["none", "no JSON", "a list", "no workflow", "no input", "deep"],
)
async def test_a_file_that_is_none_is_an_error(tmp_path: Path, content: str | None, reason: str) -> None:
    """What was named and cannot be used is not passed over; no path is told."""
    if content is not None:
        (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InvalidSettings, match=reason) as caught:
        await found(tmp_path, BENCHMARK_JSON_PATH="mine.json")
    assert (str(tmp_path) in caught.value.message, caught.value.problems[0].path) == (False, "BENCHMARK_JSON_PATH")
