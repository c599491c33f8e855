"""What the benchmark gave, kept for the next start."""

from pathlib import Path
from typing import Any

import pytest

from comfyworker.hosts.vast.benchmark import best_score
from comfyworker.hosts.vast.scores import Scores, score_key

STATS: dict[str, Any] = {
    "system": {"comfyui_version": "0.3.75", "pytorch_version": "2.7"},
    "devices": [{"name": "cuda:0 RTX 4090"}],
}
BODY: dict[str, Any] = {"input": {"workflow_json": {"1": {"class_type": "A", "inputs": {}}}}}


def changed(**changes: Any) -> dict[str, Any]:
    """Return what another ComfyUI says of itself."""
    return {**STATS, "system": {**STATS["system"], **changes}}


def test_the_fastest_run_counts() -> None:
    """The score is workload a second; a run of no time at all is none of infinite speed."""
    assert best_score(400.0, [4.0, 2.0, 8.0]) == 200.0
    assert best_score(400.0, [0.0]) < float("inf")


@pytest.mark.parametrize(
    ("body", "stats"),
    [
        pytest.param({**BODY, "expected_time": 5}, [STATS], id="workload"),
        pytest.param({"input": {"workflow_json": {}}}, [STATS], id="workflow"),
        pytest.param(BODY, [changed(comfyui_version="0.3.76")], id="version"),
        pytest.param(BODY, [{**STATS, "devices": [{"name": "cuda:0 H100"}]}], id="GPU"),
        pytest.param(BODY, [STATS, STATS], id="another ComfyUI beside it"),
    ],
)
def test_a_score_holds_for_one_worker(body: dict[str, Any], stats: list[dict[str, Any]]) -> None:
    """Whatever changes how fast it is gives another key; free memory and the like do not."""
    assert score_key(body, stats) != score_key(BODY, [STATS])
    assert score_key(BODY, [changed(ram_free=7)]) == score_key(BODY, [STATS])


def test_scores_are_kept_side_by_side(tmp_path: Path) -> None:
    """Two workers on one disk know their scores, in a folder that is made."""
    scores = Scores(tmp_path / "vast/benchmark.json")
    assert scores.find("a") is None
    scores.keep("a", 1.5)
    scores.keep("b", 2.5)
    again = Scores(tmp_path / "vast/benchmark.json")
    assert (again.find("a"), again.find("b"), again.find("c")) == (1.5, 2.5, None)
    assert [file.name for file in (tmp_path / "vast").iterdir()] == ["benchmark.json"]


@pytest.mark.parametrize(
    "content",
    ["", '{"format": 1, "scor', "[]", '{"format": 2, "scores": {"a": 1}}', '{"format": 1, "scores": {"a": "fast"}}']
    + [f'{{"format": 1, "scores": {{"a": {odd}}}}}' for odd in ("0", "-3", "true", "1e999")],
)
def test_a_file_that_is_broken_is_as_none(tmp_path: Path, content: str) -> None:
    """It is measured again, and the file is whole then."""
    file = tmp_path / "benchmark.json"
    file.write_text(content)
    scores = Scores(file)
    assert scores.find("a") is None
    scores.keep("a", 3.0)
    assert scores.find("a") == 3.0


def test_a_disk_that_takes_nothing_costs_a_benchmark(tmp_path: Path) -> None:
    """A score that cannot be kept stops nothing."""
    (tmp_path / "file").touch()
    scores = Scores(tmp_path / "file/benchmark.json")
    scores.keep("a", 3.0)
    assert scores.find("a") is None
