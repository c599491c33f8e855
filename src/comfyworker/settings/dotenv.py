"""Files of `NAME=value` lines, `.secrets` and `.env`, that settings are read from beside the environment."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

FILE_NAMES: Final = (".secrets", ".env")
"""The files that are looked for in a folder, the one that wins first."""
_CONFIG_PATH: Final = "CONFIG_PATH"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*=(.*)", re.ASCII | re.DOTALL)
_NAME_ALONE = re.compile(r"(?:export\s+)?[A-Z_][A-Z0-9_]*")
_SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_ANY_ESCAPED = re.compile(r"\\.")
_COMMENT_BEHIND = re.compile(r"\s#.*")
_UNDECODABLE = "\ufffd"
_MOST_LINES = 200
"""Lines that one quoted value may have; a key of many kilobits has fewer."""


class SettingFile(BaseModel):
    """One file of settings as it was read."""

    model_config = ConfigDict(frozen=True)

    label: str
    """What the file is called in messages: its name, and where it lies if not in the working directory."""
    values: dict[str, str] = Field(repr=False)
    """Every name in it, the settings' or not; nothing is expanded."""
    is_open: bool
    """Whether others than its owner may read or write it."""
    doubts: tuple[str, ...] = ()
    """What of it was left out and why, without what stands there, which may be a secret."""


def read_setting_files(cwd: Path, environ: Mapping[str, str]) -> tuple[SettingFile, ...]:
    """Read `.secrets` and `.env` in the working directory and beside the file that CONFIG_PATH names.

    Others read files of these names too, each a little differently: what is not understood is left out and told in
    `doubts`, and the rest counts.

    Args:
        cwd: The working directory.
        environ: The process's variables; CONFIG_PATH may also be set by a file in the working directory.

    Returns:
        The files there are, the one that wins first: every `.secrets` comes before every `.env`.
    """
    here = [_read(cwd / name, name) for name in FILE_NAMES]
    sources = (environ, *(file.values for file in here if file is not None))
    named = next((source[_CONFIG_PATH].strip() for source in sources if source.get(_CONFIG_PATH, "").strip()), None)
    beside: list[SettingFile | None] = [None] * len(FILE_NAMES)
    if named is not None:
        folder = (cwd / Path(named).expanduser()).parent
        if folder.resolve() != cwd.resolve():
            beside = [_read(folder / name, f"{name} beside {_CONFIG_PATH}") for name in FILE_NAMES]
    return tuple(file for pair in zip(here, beside, strict=True) for file in pair if file is not None)


def _read(path: Path, label: str) -> SettingFile | None:
    try:
        # A folder of that name is somebody's virtual environment.
        if not path.is_file():
            return None
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        return SettingFile(label=label, values={}, is_open=False, doubts=(f"it cannot be read: {error.strerror}",))
    values, odd = _assignments(text.splitlines())
    lines = ", ".join(str(number) for number in odd)
    doubts = (f"line{'s' if len(odd) > 1 else ''} {lines} left out: no NAME=value in UTF-8",) if odd else ()
    return SettingFile(label=label, values=values, is_open=bool(mode & _OTHERS), doubts=doubts)


def _assignments(lines: Sequence[str]) -> tuple[dict[str, str], list[int]]:
    """Return what lines say, and the numbers, from 1, of those that say nothing that is understood."""
    values: dict[str, str] = {}
    odd: list[int] = []
    at = 0
    while at < len(lines):
        line, number = lines[at].strip(), at + 1
        at += 1
        # A name alone is what `docker run --env-file` takes from the environment, as is done here with all names.
        if not line or line.startswith("#") or _NAME_ALONE.fullmatch(line):
            continue
        found = _ASSIGNMENT.fullmatch(line)
        value = None if found is None or _UNDECODABLE in line else _unquote(found[2])
        taken = 0
        if found is not None and value is None and found[2].lstrip()[:1] in {"'", '"'}:
            value, taken = _continued(found[2], lines[at : at + _MOST_LINES])
        if found is None or value is None:
            odd.append(number)
        else:
            values[found[1]] = value
            at += taken
    return values, odd


def _continued(begun: str, rest: Sequence[str]) -> tuple[str | None, int]:
    """Return a quoted value that ends on a later line, and how many lines more it takes; None if it never ends."""
    text = begun
    for count, line in enumerate(rest, start=1):
        text = f"{text}\n{line}"
        value = None if _UNDECODABLE in text else _unquote(text)
        if value is not None:
            return value, count
        quote = text.lstrip()[0]
        if quote in (_ANY_ESCAPED.sub("", line) if quote == '"' else line):
            break  # It ends here, and what comes behind it is no comment.
    return None, 0


def _unquote(text: str) -> str | None:
    """Return what `text`, all behind the equals sign, means; None if its quotes do not fit."""
    begun = text.lstrip()
    if begun.startswith("'"):
        found = _SINGLE_QUOTED.fullmatch(begun)
        return None if found is None else found[1]
    if begun.startswith('"'):
        found = _DOUBLE_QUOTED.fullmatch(begun)
        return None if found is None else _ESCAPED.sub(r"\1", found[1])
    return _COMMENT_BEHIND.sub("", text).strip()
