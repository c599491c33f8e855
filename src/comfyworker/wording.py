"""How problems are worded: labels, values cut to a sensible length, and the nearest spelling."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from pydantic import JsonValue

from comfyworker.errors import Problem

LISTED_PROBLEMS = 3
"""How many problems a message spells out; `problems` has all of them."""
LISTED_CHOICES = 10
"""How many choices a problem lists."""
_QUOTED_CHARS = 80
_RECEIVED_CHARS = 200
_MAX_COMPARED = 5000
"""Candidates that are compared with a word: 5000 take some 50 ms, and more would hold up the event loop."""
_CUTOFF = 0.6
_ENDING = re.compile(r"\.(safetensors|sft|ckpt|pth?|bin|gguf|onnx|png|jpe?g|webp|gif|mp4|webm|wav|mp3|flac)$")


class Nearest(NamedTuple):
    """Candidates in the order of their likeness to a word."""

    close: tuple[str, ...]
    """Those that could be a misspelling of the word, nearest first."""
    listed: tuple[str, ...]
    """`close`, filled up with others to a sensible number."""

    @property
    def suggestion(self) -> str | None:
        """The likeliest spelling, if there is any."""
        return self.close[0] if self.close else None


def clip(text: str, length: int = _QUOTED_CHARS) -> str:
    """Return `text` on one line, cut to a sensible length."""
    return _cut(" ".join(text[: 2 * length].split()), length)


def quote(value: object) -> str:
    """Return `value` in single quotes if it is text, else as JSON, on one line and cut to a sensible length."""
    if isinstance(value, str):
        return f"'{clip(value)}'"
    return _cut(_as_json(value), _QUOTED_CHARS)


def received(value: object) -> JsonValue:
    """Return `value` for `Problem.received`: plain JSON that every encoder takes, cut to a sensible length."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _cut(value, _RECEIVED_CHARS)
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _cut(_as_json(value), _RECEIVED_CHARS)


def listing(choices: Iterable[str], total: int) -> str:
    """Return some of `total` choices as one phrase."""
    some = [clip(choice) for choice in choices]
    return ", ".join(some) + (", …" if total > len(some) else "")


def nearest(word: str, candidates: Iterable[object]) -> Nearest:
    r"""Return the candidates that look like `word`, then some more of them.

    Letter case, separators, a file's ending and a folder before it do not count, so `SD15\Model.safetensors` is near
    to `model.ckpt`. The ending most of all must not: `.safetensors` alone would make any two names look alike.
    """
    names = [str(candidate) for candidate in islice(candidates, _MAX_COMPARED)]
    wanted = _plain(word[:_RECEIVED_CHARS])
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    close = [name for key, name in plain.items() if key.rpartition("/")[2] == wanted.rpartition("/")[2]]
    close += [plain[match] for match in difflib.get_close_matches(wanted, plain, n=LISTED_CHOICES, cutoff=_CUTOFF)]
    close = list(dict.fromkeys(close))[:LISTED_CHOICES]
    return Nearest(tuple(close), tuple(dict.fromkeys([*close, *names[: 2 * LISTED_CHOICES]]))[:LISTED_CHOICES])


def summary(problems: Sequence[Problem]) -> str:
    """Return one message for several problems: how many they are, and the first of them."""
    if len(problems) == 1:
        return problems[0].message
    more = "; …" if len(problems) > LISTED_PROBLEMS else ""
    return f"{len(problems)} problems: {'; '.join(p.message for p in problems[:LISTED_PROBLEMS])}{more}"


def _plain(name: str) -> str:
    return _ENDING.sub("", name.casefold().replace("\\", "/").replace("_", " ").replace("-", " "))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
