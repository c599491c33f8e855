"""Files of `NAME=value` lines, `.secrets` and `.env`, that settings are read from beside the environment."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from comfyworker.errors import InvalidSettings, Problem

FILE_NAMES: Final = (".secrets", ".env")
"""The files that are looked for in a folder, the one that wins first."""
_CONFIG_PATH: Final = "CONFIG_PATH"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*=(.*)", re.ASCII)
_SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPED = re.compile(r'\\(["\\])')
_COMMENT_BEHIND = re.compile(r"\s#.*")


class SettingFile(BaseModel):
    """One file of settings as it was read."""

    model_config = ConfigDict(frozen=True)

    label: str
    """What the file is called in messages: its name, and where it lies if not in the working directory."""
    values: dict[str, str] = Field(repr=False)
    """Every name in it, the settings' or not; nothing is expanded."""
    is_open: bool
    """Whether others than its owner may read or write it."""


def read_setting_files(cwd: Path, environ: Mapping[str, str]) -> tuple[SettingFile, ...]:
    """Read `.secrets` and `.env` in the working directory and beside the file that CONFIG_PATH names.

    Args:
        cwd: The working directory.
        environ: The process's variables; CONFIG_PATH may also be set by a file in the working directory.

    Returns:
        The files there are, the one that wins first: every `.secrets` comes before every `.env`.

    Raises:
        InvalidSettings: with every line that is none, by file and number, and every file that cannot be read.
    """
    problems: list[Problem] = []
    here = [_read(cwd / name, name, problems) for name in FILE_NAMES]
    sources = (environ, *(file.values for file in here if file is not None))
    named = next((source[_CONFIG_PATH].strip() for source in sources if source.get(_CONFIG_PATH, "").strip()), None)
    beside: list[SettingFile | None] = [None] * len(FILE_NAMES)
    if named is not None:
        folder = (cwd / Path(named).expanduser()).parent
        if folder.resolve() != cwd.resolve():
            beside = [_read(folder / name, f"{name} beside {_CONFIG_PATH}", problems) for name in FILE_NAMES]
    if problems:
        raise InvalidSettings(
            "; ".join(problem.message for problem in problems),
            hint="Each line is NAME=value, a comment that begins with #, or blank; a value that begins with a quote "
            "ends with the same quote, on its line.",
            problems=problems,
        )
    return tuple(file for pair in zip(here, beside, strict=True) for file in pair if file is not None)


def _read(path: Path, label: str, problems: list[Problem]) -> SettingFile | None:
    # A folder of that name is somebody's virtual environment.
    if not path.is_file():
        return None
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        problems.append(Problem(message=f"{label} {reason}", path=label, code="unreadable_file"))
        return None
    return SettingFile(label=label, values=dict(_assignments(text, label, problems)), is_open=bool(mode & _OTHERS))


def _assignments(text: str, label: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _ASSIGNMENT.fullmatch(line)
        value = None if found is None else _unquote(found[2])
        if found is None or value is None:
            reason = "is no NAME=value" if found is None else "has a quoted value that does not end with its quote"
            # What stands there may be a secret.
            problems.append(Problem(message=f"{label}: line {number} {reason}", path=label, code="invalid_line"))
        else:
            yield found[1], value


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
