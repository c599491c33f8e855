"""How the room words what is wrong with a file: one problem, raised alone, gathered by whoever reads many files."""

from __future__ import annotations

from collections.abc import Sequence

from comfyworker.errors import InvalidRequest, Problem

_SHOWN_CHARS = 24
_LISTED_PROBLEMS = 3


def refuse(
    message: str, *, code: str, path: str, received: str | None = None, hint: str | None = None
) -> InvalidRequest:
    """Return the error for one thing that is wrong with one file."""
    return InvalidRequest(
        message, hint=hint, problems=[Problem(message=message, code=code, path=path, received=received)]
    )


def shown(text: str) -> str:
    """Return the beginning of `text` on one line, never the whole of a payload."""
    # `repr` also escapes what would break a line or a log; its quotes are put on by the caller.
    start = repr(text[:_SHOWN_CHARS])[1:-1]
    return start if len(text) <= _SHOWN_CHARS else f"{start}…"


def beginning(text: str) -> str:
    """Return a phrase for what a text is: short ones whole, longer ones by their start."""
    return f"is '{shown(text)}'" if len(text) <= _SHOWN_CHARS else f"starts with '{shown(text)}'"


def combine(faults: Sequence[InvalidRequest]) -> InvalidRequest:
    """Return one error with all the problems of `faults`, of which there is at least one."""
    problems = [problem for fault in faults for problem in fault.problems]
    message = "; ".join(problem.message for problem in problems[:_LISTED_PROBLEMS])
    if len(problems) > _LISTED_PROBLEMS:
        message += f"; and {len(problems) - _LISTED_PROBLEMS} more"
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return InvalidRequest(message, hint=" ".join(hints) or None, problems=problems)
