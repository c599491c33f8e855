"""Our Markdown pages, as the tests of the docs read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.source import REPOSITORY

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="(?P<name>[^"]+)">')


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True)
class Step:
    """A command that a page tells its reader to enter, with what the page says comes of it."""

    command: str
    shown: str = ""
    exit_code: int = 0


def pages() -> list[Path]:
    """Return every page that people read, in a fixed order."""
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")
    found = [REPOSITORY / name for name in names]
    return [*found, *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, match["language"], match["text"]) for match in _FENCE.finditer(text)]


def code_spans(page: Path) -> list[str]:
    """Return what stands between backticks in the page's text and tables."""
    return _CODE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    """Return the targets of the page's links and pictures."""
    return [match["target"] for match in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8")))]


def anchors(page: Path) -> set[str]:
    """Return the names that a link into the page can end with."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = (re.sub(r"[^\w\- ]", "", match["text"].lower()) for match in _HEADING.finditer(text))
    return {*(heading.strip().replace(" ", "-") for heading in headings), *_ANCHOR.findall(text)}


def first_cells(page: Path) -> list[str]:
    """Return the code spans in the first column of the page's tables, in order."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [span for row in rows for span in _CODE.findall(row.split("|")[1])]


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands of an `sh` or `console` block; of a `console` block with what it shows.

    `$ echo $?` after a command tells its exit code.
    """
    if block.language == "sh":
        yield from (Step(line) for line in block.text.splitlines() if line)
    if block.language != "console":
        return
    parts = [part.partition("\n") for part in block.text.removeprefix("$ ").split("\n$ ")]
    for (command, _, shown), (after, _, code) in zip(parts, [*parts[1:], ("", "", "")], strict=True):
        if command != "echo $?":
            yield Step(command, shown, int(code) if after == "echo $?" else 0)
