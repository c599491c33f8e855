"""How `comfyworker workflow inspect` looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from comfyworker.workflow.needs import Needs

_VALUE_CHARS = 60
_FILE_WIDTH = 1000
"""A file or a pipe has no width: whole lines serve whoever searches them."""


def print_needs(needs: Needs) -> None:
    """Print a table on stdout for each part that is not empty."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)
    models = (
        [entry.name, entry.folder or "folder unknown", _there(is_there=entry.is_there), _nodes(entry.node_ids)]
        for entry in needs.models
    )
    classes = (
        [
            entry.class_type,
            f"{entry.count} of it" if entry.count > 1 else "",
            entry.pack or "",
            _there(is_there=entry.is_there),
        ]
        for entry in needs.classes
    )
    _print(console, "Models", models)
    _print(console, "Node classes", classes)
    _print(console, "Input files", ([entry.name, f"{entry.node_id}.{entry.input_name}"] for entry in needs.inputs))
    _print(console, "Outputs", ([entry.node_id, entry.class_type, entry.title or ""] for entry in needs.outputs))
    parameters = (
        [f"{entry.node_id}.{entry.input_name}", _short(entry.value), entry.title or entry.class_type]
        for entry in needs.parameters
    )
    _print(console, "Parameters", parameters)


def _print(console: Console, title: str, rows: Iterable[list[str]]) -> None:
    table = Table.grid(padding=(0, 3))
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    if table.rows:
        console.print(Text(title, style="bold"))
        console.print(table)
        console.print()


def _there(*, is_there: bool | None) -> str:
    if is_there is None:
        return ""
    return "there" if is_there else "missing"


def _nodes(node_ids: tuple[str, ...]) -> str:
    return f"node {', '.join(node_ids)}"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"
