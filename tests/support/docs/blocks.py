"""The code blocks of a page, with what its author says about each.

    Save this as `order.json`:

    <!-- not run: needs a GPU -->
    ```json
    …

A directive is an HTML comment on the line above the fence; several stand on lines of their own.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.source import REPOSITORY

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
_DIRECTIVE = re.compile(r"\s*<!-- (?P<name>not run|output|webhook|alone)(?:: (?P<words>.+))? -->")
_COMMENT = re.compile(r"\s*<!--.*-->")
_SAVE = re.compile(r"[Ss]ave (?:this|it) as `(?P<name>[\w./-]+)`(?:;[^:]*)?:$")
_SURROUNDINGS = re.compile(r"^<!-- surroundings: (?P<names>.+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class DocBlock:
    """A fenced block."""

    page: Path
    line: int
    """Of its fence, from 1."""
    language: str
    text: str
    directives: dict[str, str] = field(default_factory=dict)
    """By name, with the words after the colon."""
    save_as: str = ""
    """The file that the page tells its reader to save it as."""
    stray: str = ""
    """A comment above it that is no directive."""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{page_name(self.page)}:{self.line}"

    @property
    def not_run(self) -> str:
        """Why it cannot be run; nothing if it can."""
        return self.directives.get("not run", "")


def page_name(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(REPOSITORY))


def doc_pages() -> list[Path]:
    """Return every page whose blocks are checked, in a fixed order."""
    first = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
    return [page for page in (*first, *sorted((REPOSITORY / "docs").rglob("*.md"))) if page.exists()]


def doc_blocks(page: Path) -> list[DocBlock]:
    """Return the blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, match) for match in _FENCE.finditer(text)]


def surroundings(page: Path) -> set[str]:
    """Return what the page says must be there from the beginning."""
    found = _SURROUNDINGS.findall(page.read_text(encoding="utf-8"))
    return {name.strip() for names in found for name in names.split(",")}


def _block(page: Path, text: str, match: re.Match[str]) -> DocBlock:
    before = text[: match.start()]
    directives: dict[str, str] = {}
    stray = ""
    lines = before.split("\n")[:-1]
    while lines and _COMMENT.fullmatch(lines[-1]):
        line = lines.pop()
        if found := _DIRECTIVE.fullmatch(line):
            directives[found["name"]] = found["words"] or ""
        else:
            stray = line.strip()
    told = next((line.strip() for line in reversed(lines) if line.strip()), "")
    save = _SAVE.search(told)
    return DocBlock(
        page=page,
        line=before.count("\n") + 1,
        language=match["language"],
        text=textwrap.dedent(match["text"]),
        directives=directives,
        save_as=save["name"] if save else "",
        stray=stray,
    )


@dataclass(frozen=True)
class SessionStep:
    """A command of a `console` block, with what the page says comes of it."""

    command: str
    shown: str = ""
    exit_code: int = 0


def session_steps(block: DocBlock) -> Iterator[SessionStep]:
    r"""Yield the steps of a `console` block; `$ echo $?` after a command tells its exit code.

    A command goes on after a backslash at a line's end, and on lines that begin with `> `.
    """
    found: list[tuple[str, list[str]]] = []
    is_open = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and (is_open or (line.startswith("> ") and not found[-1][1])):
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", [])
        elif found:
            found[-1][1].append(line)
        is_open = bool(found) and not found[-1][1] and found[-1][0].endswith("\\")
    for (command, shown), (after, code) in zip(found, [*found[1:], ("", [])], strict=True):
        if command != "echo $?":
            yield SessionStep(command, "\n".join(shown), int("".join(code)) if after == "echo $?" else 0)
