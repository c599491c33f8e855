"""Requests and answers of every dialect as whole documents: `tests/golden/<dialect>/<case>.json`.

`request` is what a client sends; `result` is what came of the job, left out where the request itself is refused;
`answer` is what the client gets.
"""

import json
from pathlib import Path

import pytest

from comfyworker.dialects import DIALECT_NAMES, dialect_named, wanted_id
from comfyworker.errors import WorkerError
from comfyworker.jobs import JobResult
from support.source import REPOSITORY

GOLDEN = REPOSITORY / "tests/golden"
CASES = sorted(GOLDEN.glob("*/*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_answer_is_the_recorded_one(path: Path) -> None:
    """Every key, every word, and no more; a request that has a result is taken without a warning."""
    case = json.loads(path.read_text(encoding="utf-8"))
    dialect = dialect_named(path.parent.name)
    try:
        job = dialect.parse(case["request"], new_id=lambda: "new-id")
    except WorkerError as error:
        assert "result" not in case
        result = JobResult.refused(wanted_id(case["request"]) or "new-id", error)
    else:
        assert job.warnings == ()
        result = JobResult.model_validate({"id": job.id, **case["result"]})
    assert dialect.render(result) == case["answer"]


def test_each_dialect_has_golden_answers() -> None:
    """Good ones and bad ones."""
    assert {path.parent.name for path in CASES} == set(DIALECT_NAMES)
