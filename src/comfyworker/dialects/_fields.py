"""The keys of a request's objects, read one by one; what is wrong with them is gathered, never raised."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue, SecretStr, TypeAdapter, ValidationError

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.jobs import RANDOM_INT

ENTRY_CODE = "invalid_images_entry"
"""The code of problems that only go into details: another problem's text stands for all of them in the message."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}")
"""What an id may be: it becomes a key in stores and logs, so nothing that could be a path."""
_MAX_SECONDS = 1_000_000_000
_LISTED_PROBLEMS = 3
_SHOWN_CHARS = 40
_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class Fields:
    """One object of a request; each method reads one key.

    A key that is not there, and null, is None. A value that does not fit is None, too, and a problem.
    """

    def __init__(self, given: Mapping[str, Any], problems: list[Problem], path: str = "") -> None:
        """Read from `given`, which stands at `path` in the request; add to `problems`."""
        # Any: JSON from outside, looked at key by key
        self.given = given
        self.problems = problems
        self._path = path

    def path(self, key: str) -> str:
        """Return where a key stands in the request."""
        return f"{self._path}.{key}" if self._path else key

    def add(self, key: str, message: str, code: str) -> None:
        """Add a problem with one key; the message begins with its path."""
        path = self.path(key)
        self.problems.append(Problem(message=f"{path} {message}", code=code, path=path))

    def text(self, key: str) -> str | None:
        """Return text, which may be empty."""
        value = self.given.get(key)
        if value is None or isinstance(value, str):
            return value
        self._wrong(key, "text")
        return None

    def node_id(self, key: str) -> str | None:
        """Return a node's id; a whole number is taken as its text, and empty text as none."""
        value = self.given.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return str(value)
        self._wrong(key, "a node's id")
        return None

    def whole_number(self, key: str) -> int | None:
        """Return a whole number; 20.0 is one."""
        value = self.given.get(key)
        if value is None:
            return None
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            value = int(value)
        if isinstance(value, float):
            self.add(key, f"must be a whole number, it is {value:g}", "wrong_type")
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(key, "a whole number")
            return None
        if not -(2**63) <= value < 2**64:
            self.add(key, "must be a whole number of 64 bits", "invalid_value")
            return None
        return value

    def seed(self, key: str) -> int | str | None:
        """Return a seed, which may be the placeholder for a random one."""
        return RANDOM_INT if self.given.get(key) == RANDOM_INT else self.whole_number(key)

    def seconds(self, key: str) -> float | None:
        """Return a positive number of seconds."""
        value = self.given.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(key, "a number of seconds")
            return None
        if not 0 < value <= _MAX_SECONDS:
            self.add(key, f"must be a positive number of seconds, up to {_MAX_SECONDS}", "invalid_value")
            return None
        return float(value)

    def job_id(self, key: str) -> str | None:
        """Return an id that can be a key in stores and logs; empty text is none."""
        value = self.given.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._wrong(key, "text")
            return None
        if _ID.fullmatch(value) is None:
            what = f"must be up to 128 letters, digits and any of . _ : @ = + -, it is {shown(value)}"
            self.add(key, what, "invalid_value")
            return None
        return value

    def secret(self, key: str) -> SecretStr | None:
        """Return a secret; empty text is none. What was sent is never repeated: it may be the secret all the same."""
        value = self.given.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.add(key, "must be text", "wrong_type")
            return None
        return SecretStr(value)

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Return one of `choices`; empty text is none."""
        value = self.text(key)
        if not value or value in choices:
            return value or None
        near = difflib.get_close_matches(value[:_SHOWN_CHARS], choices, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else ""
        path = self.path(key)
        self.problems.append(
            Problem(
                message=f"{path} must be one of {', '.join(choices)}, it is {shown(value)}{meant}",
                code="invalid_value",
                path=path,
                choices=tuple(choices),
                suggestion=near[0] if near else None,
            )
        )
        return None

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.given.get(key)
        if value is None or isinstance(value, bool):
            return value
        self._wrong(key, "true or false")
        return None

    def mapping(self, key: str) -> Mapping[str, Any] | None:  # Any: JSON from outside
        """Return an object."""
        value = self.given.get(key)
        if value is None or isinstance(value, Mapping):
            return value
        self._wrong(key, "an object")
        return None

    def entries(self, key: str) -> Sequence[Fields]:
        """Return the objects of a list; an entry that is none is a problem."""
        value = self.given.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong(key, "a list")
            return ()
        found = []
        for index, item in enumerate(value):
            path = f"{self.path(key)}[{index}]"
            if isinstance(item, Mapping):
                found.append(Fields(item, self.problems, path))
            else:
                self.problems.append(wrong_type(path, "an object", item))
        return found

    def json(self, key: str) -> JsonValue:
        """Return any JSON value that is not nested too deeply."""
        value = self.given.get(key)
        try:
            return _JSON.validate_python(value)
        except ValidationError:
            self.add(key, "is no JSON value, or nested too deeply", "invalid_value")
            return None

    def unknown_keys(self, known: Sequence[str], *, where: str) -> tuple[str, ...]:
        """Return a warning for each key that nobody knows; `where` says which object this is."""
        warnings = []
        for key in self.given:
            if key not in known:
                near = difflib.get_close_matches(str(key)[:_SHOWN_CHARS], known, n=1)
                meant = f"; did you mean '{near[0]}'?" if near else ""
                warnings.append(f"the key {shown(str(key))} in {where} is unknown and was ignored{meant}")
        return tuple(warnings)

    def _wrong(self, key: str, wanted: str) -> None:
        self.problems.append(wrong_type(self.path(key), wanted, self.given.get(key)))


def wrong_type(path: str, wanted: str, value: object, code: str = "wrong_type") -> Problem:
    """Return the problem that `value` is not of the wanted type."""
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    kind = kinds.get(type(value), "null" if value is None else "no JSON value")
    return Problem(message=f"{path} must be {wanted}, it is {kind}", code=code, path=path)


def shown(text: str) -> str:
    """Return text as a message shows it."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def refused(problems: Sequence[Problem]) -> InvalidRequest:
    """Return one error for all problems; where a dialect has a text for the first one, the message begins with it."""
    told = [problem.message for problem in problems if problem.code != ENTRY_CODE]
    message = "; ".join(told[:_LISTED_PROBLEMS])
    if len(told) > _LISTED_PROBLEMS:
        message += f"; and {len(told) - _LISTED_PROBLEMS} more"
    return InvalidRequest(message, problems=problems)
