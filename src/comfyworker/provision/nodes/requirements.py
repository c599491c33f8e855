"""What a custom node needs, read from its requirements.txt in whatever form people write it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pydantic import BaseModel, ConfigDict

from comfyworker.wording import quote

FILE_NAME = "requirements.txt"
_TORCH_HOST = "download.pytorch.org"
_MAX_DEPTH = 8
_COMMENT = re.compile(r"(^|\s)#.*$")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
_HASH = re.compile(r"\s--hash[= ]\S+")
_DIRECT = re.compile(r"^(?:(?:git|hg|svn|bzr)\+\w+|https?|file)://", re.IGNORECASE)
_LOCAL = re.compile(r"^(?:\.{1,2}(?:/|$|\[)|/)|\.(?:whl|zip|tar\.gz)$")
_OPTION = re.compile(r"^(--?[A-Za-z][\w-]*)(?:\s*=\s*|\s+|$)(.*)$")
_SHORT = re.compile(r"^(-[a-zA-Z])([^\s=-].*)$")
_INDEX_OPTIONS = frozenset({"-i", "--index-url", "--pypi-url", "--extra-index-url"})
_LINK_OPTIONS = frozenset({"-f", "--find-links"})
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class Need(BaseModel):
    """One requirement."""

    model_config = ConfigDict(frozen=True)

    text: str
    """As uv takes it, on one line."""
    name: str | None = None
    """The package's name, normalised; None for a URL that does not tell."""


class Needs(BaseModel):
    """All that a custom node needs."""

    model_config = ConfigDict(frozen=True)

    needs: tuple[Need, ...] = ()
    indexes: tuple[str, ...] = ()
    """Package indexes that it names, beside the usual one."""
    links: tuple[str, ...] = ()
    """Pages with wheels that it names."""
    notes: tuple[str, ...] = ()
    """What of it is not followed, in sentences without a full stop."""
    problems: tuple[str, ...] = ()
    """Lines that nobody can understand."""


class _Line(NamedTuple):
    text: str
    file: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.file} line {self.number}"


def read_needs(folder: Path) -> Needs | None:
    """Return what the requirements.txt in `folder` asks for, or None if there is none."""
    path = folder / FILE_NAME
    return _collect(_read_lines(path, folder, 0), folder) if path.is_file() else None


def parse_needs(texts: Iterable[str], *, source: str) -> Needs:
    """Return what a list of requirements asks for; `source` says whose they are."""
    return _collect((_Line(text, source, number) for number, text in enumerate(texts, 1)), None)


def decode_text(raw: bytes) -> str:
    """Return a text file's content: by its byte order mark, as UTF-8, else as Latin-1, which takes anything."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _read_lines(path: Path, folder: Path, depth: int) -> Iterator[_Line]:
    text = decode_text(path.read_bytes())
    held, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start if held else number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            held += raw[:-1]
            continue
        line = _COMMENT.sub("", held + raw).strip()
        held = ""
        included = _included(line)
        name = path.relative_to(folder).as_posix()
        if included is None:
            if line:
                yield _Line(line, name, start)
            continue
        other = (path.parent / included).resolve()
        if depth < _MAX_DEPTH and other.is_file() and other.is_relative_to(folder.resolve()):
            yield from _read_lines(folder / other.relative_to(folder.resolve()), folder, depth + 1)
        else:
            yield _Line(line, name, start)
    if held.strip():
        yield _Line(_COMMENT.sub("", held).strip(), path.relative_to(folder).as_posix(), start)


def _included(line: str) -> str | None:
    option, value = _split_option(line)
    return value if option in {"-r", "--requirement"} and value else None


def _split_option(line: str) -> tuple[str | None, str]:
    match = _SHORT.match(line) or _OPTION.match(line)
    return (match.group(1), match.group(2).strip().strip("\"'")) if match else (None, line)


def _collect(lines: Iterable[_Line], folder: Path | None) -> Needs:
    needs: list[Need] = []
    found: dict[str, list[str]] = {"indexes": [], "links": [], "notes": [], "problems": []}
    for line in lines:
        option, value = _split_option(line.text)
        if option in {"-e", "--editable"}:
            _add(_Line(value, line.file, line.number), folder, needs, found)
        elif option is not None:
            _take_option(option, value, line, found)
        else:
            _add(line, folder, needs, found)
    return Needs(needs=tuple(needs), **{name: tuple(dict.fromkeys(values)) for name, values in found.items()})


def _take_option(option: str, value: str, line: _Line, found: dict[str, list[str]]) -> None:
    if option in _INDEX_OPTIONS | _LINK_OPTIONS:
        parts = urlsplit(value)
        if parts.hostname == _TORCH_HOST:
            return  # torch is there and stays; its index would only bring old copies of other packages in.
        if parts.scheme == "https":
            found["indexes" if option in _INDEX_OPTIONS else "links"].append(value)
            return
    if option in {"-r", "--requirement"}:
        found["notes"].append(f"{line.place} names a file that is not in its folder ({quote(value)})")
    else:
        found["notes"].append(f"{line.place}: {quote(line.text)} is not followed")


def _add(line: _Line, folder: Path | None, needs: list[Need], found: dict[str, list[str]]) -> None:
    text = _HASH.sub("", line.text).strip()
    need = _direct(text) if _DIRECT.match(text) else _local(text, folder) if _LOCAL.search(text) else _plain(text)
    if need is None:
        found["problems"].append(f"{line.place}: {quote(line.text)} is no requirement that can be understood")
    else:
        needs.append(need)


def _plain(text: str) -> Need | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return Need(text=text, name=canonicalize_name(requirement.name))


def _direct(text: str) -> Need:
    egg = _EGG.search(text)
    name = egg.group(1) if egg else _wheel_name(urlsplit(text.split(" ", maxsplit=1)[0]).path)
    return Need(text=text, name=canonicalize_name(name) if name else None)


def _local(text: str, folder: Path | None) -> Need | None:
    if "://" in text:
        return _plain(text)
    if folder is None:
        return None
    path = (folder / text).resolve()
    if not path.exists() or not path.is_relative_to(folder.resolve()):
        return None
    name = _wheel_name(path.name)
    return Need(text=str(path), name=canonicalize_name(name) if name else None)


def _wheel_name(path: str) -> str | None:
    try:
        return str(parse_wheel_filename(unquote(path).rpartition("/")[2])[0])
    except InvalidWheelFilename:
        return None
