"""What the workers that people come from call their things: `tests/migration/*.toml`, and the pages that tell of it."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.source import REPOSITORY

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Origin:
    """A worker that people come from."""

    name: str
    page: Path
    dialect: str
    names: dict[str, tuple[tuple[str, str], ...]]
    """Each name of theirs, with the kinds and names of what there is here in its place; nothing where there is none."""
    examples: tuple[dict[str, Any], ...]
    """Requests as the worker's documents show them: `route` and `body`."""
    issues: dict[str, str]
    """What its documents say of troubles, and the heading of ours that is about the same, as a link has it."""


def origins() -> list[Origin]:
    """Return all workers that people come from, in a fixed order."""
    return [_read(path) for path in sorted((REPOSITORY / "tests/migration").glob("*.toml"))]


def foreign_variables() -> set[str]:
    """Return the environment variables that only other workers know, or only their containers and clients."""
    told = [(theirs, ours) for origin in origins() for theirs, ours in origin.names.items()]
    words = [theirs for theirs, ours in told if ("setting", theirs) not in ours]
    words += [name for _, ours in told for kind, name in ours if kind in _NO_SETTINGS]
    return {variable for word in words for variable in _VARIABLE.findall(word)}


_NO_SETTINGS = frozenset({"container-variable", "client-variable", "build-argument"})


def rows(page: Path) -> list[tuple[list[str], str]]:
    """Return the rows of the page's tables that begin with a name: the names there, and the rest of the row."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        _, bar, rest = line.partition("| ")
        first, _, others = rest.partition(" |")
        names = _CODE.findall(first)
        if bar and names:
            found.append((names, others))
    return found


def _read(path: Path) -> Origin:
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    names = {theirs: tuple(_split(each) for each in ours) for theirs, ours in told["names"].items()}
    return Origin(path.stem, REPOSITORY / told["page"], told["dialect"], names, tuple(told["examples"]), told["issues"])


def _split(text: str) -> tuple[str, str]:
    kind, _, name = text.partition(" ")
    return kind, name
