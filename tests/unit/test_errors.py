"""The error tree is drawn as it is, and an error says all that an answer needs."""

import inspect

import pytest

from comfyworker import errors
from comfyworker.errors import InvalidWorkflow, Problem, WorkerError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WorkerError)]


def drawn_tree(drawing: str) -> dict[str, str | None]:
    """Return each class in the drawing with the one above it."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        text = line.removeprefix("    ")
        if not line.startswith("    ") or not text.strip():
            continue
        name = text.lstrip(" │├└─")
        depth = (len(text) - len(name)) // 4
        parents[name] = above[depth - 1] if depth else None
        above[depth:] = [name]
    return parents


def test_the_drawing_is_the_tree() -> None:
    """The module opens with the tree of its classes: all of them, each below its base."""
    assert drawn_tree(errors.__doc__ or "") == {
        error.__name__: None if error is WorkerError else error.__bases__[0].__name__ for error in CLASSES
    }


def test_each_class_has_a_code_of_its_own() -> None:
    """A client tells two failures apart by their codes; only the root shares that of an internal error."""
    codes = [error.code for error in CLASSES if error is not WorkerError]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_class_can_be_answered(error: type[WorkerError]) -> None:
    """Each error has an HTTP status of an error and says in one sentence what it is."""
    assert 400 <= error.http_status < 600
    assert (error.__doc__ or "").splitlines()[0].endswith(".")


def test_a_bare_error_is_code_and_message() -> None:
    """What is not set does not appear in the answer."""
    assert InvalidWorkflow("it is empty").to_dict() == {
        "code": "invalid_workflow",
        "message": "it is empty",
        "retryable": False,
    }


def test_a_full_error_keeps_everything() -> None:
    """Hint, problems and details reach the answer, the problems without the fields that say nothing."""
    problem = Problem(message="no such class", node_id="4", choices=("KSampler",), suggestion="KSampler")
    error = InvalidWorkflow("1 problem", hint="correct it", problems=[problem], details={"nodes": 3})
    assert error.to_dict() == {
        "code": "invalid_workflow",
        "message": "1 problem",
        "retryable": False,
        "hint": "correct it",
        "problems": [
            {"message": "no such class", "node_id": "4", "choices": ["KSampler"], "suggestion": "KSampler"},
        ],
        "details": {"nodes": 3},
    }


def test_an_error_reads_as_its_message() -> None:
    """In a traceback or a log the error shows its message."""
    assert str(WorkerError("something broke", hint="look there")) == "something broke"
