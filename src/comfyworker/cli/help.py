"""What `--help` shows: typer's plain form, which fits 80 columns and pipes, with examples that can be copied."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

_HEADING: Final = "\n\nExamples:\n"
"""Begins the last section of a command's docstring; its lines are shown as they stand."""


def split_examples(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a command's docstring without its examples, and the lines of these."""
    told, _, examples = inspect.cleandoc(text).partition(_HEADING)
    return told, tuple(textwrap.dedent(examples).splitlines())


class TaughtCommand(TyperCommand):
    """A command whose help has examples."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # typer's own
        """Take the examples out of the help, of which typer would make paragraphs."""
        given["help"], self.examples = split_examples(given.get("help") or "")
        super().__init__(**given)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # as above
        """Write what the command does, then its examples."""
        super().format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class TaughtGroup(TyperGroup):
    """A group whose help has the whole first sentence of each command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # as above
        """Write the commands, under the headings that they have."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)  # Any: as above
            rows = sections.setdefault(command.rich_help_panel or "Commands", [])
            rows.append((name, command.short_help or summary_of(command.help)))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def summary_of(text: str | None) -> str:
    """Return the first paragraph of a command's help, as one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
