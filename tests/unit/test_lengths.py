"""Modules and functions stay as short as people can hold them in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.source import REPOSITORY, python_files

MODULE_LIMIT = 500
FUNCTION_LIMIT = 60


def too_long(path: Path) -> list[str]:
    """Return what in `path` is over its limit, each with its place and its lines."""
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(REPOSITORY)
    lines = len(text.splitlines())
    found = [f"{place}: {lines} lines"] if lines > MODULE_LIMIT else []
    if lines <= FUNCTION_LIMIT:
        return found
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LIMIT:
                found.append(f"{place}:{node.lineno} {node.name}: {length} lines")
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements in `node`; expressions, in which no function is defined, are not looked at."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from statements(child)


def test_nothing_is_too_long() -> None:
    """No module has more than 500 lines, no function more than 60."""
    assert [item for path in python_files() for item in too_long(path)] == []


def test_a_long_function_is_seen() -> None:
    """The measure itself works: it counts a function from `def` to its last line."""
    path = REPOSITORY / "tests/unit/test_lengths.py"
    [function] = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "test_nothing_is_too_long"
    ]
    assert (function.end_lineno or 0) - function.lineno + 1 == 3
