"""An install as its user sees it: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_REFRESH_PER_S = 8


class InstallProgress:
    """Shows the steps of an install, with what the running one does now and the seconds it has taken.

    A context manager: leaving it ends the last step and the live line.
    """

    def __init__(self, console: Console) -> None:
        """Prepare to write to `console`; nothing is written yet."""
        self._console = console
        self._title = ""
        self._line = ""
        self._began_s = 0.0
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=_REFRESH_PER_S)

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the step that runs; after an error it counts as failed."""
        self._end_step(is_good=kind is None)
        self._live.stop()

    def step(self, number: int, total: int, title: str) -> None:
        """End the running step and begin another."""
        self._end_step(is_good=True)
        self._title, self._line, self._began_s = f"[{number}/{total}] {title}", "", time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print(Text(self._title))

    def line(self, text: str) -> None:
        """Show `text` as what is done now; without a terminal it is left out, since a log wants no thousand lines."""
        self._line = text.strip()

    def note(self, text: str) -> None:
        """Write a sentence that stays."""
        self._print(Text(f"      {text}", style="yellow"))

    def _end_step(self, *, is_good: bool) -> None:
        if not self._title:
            return
        took = f"{time.monotonic() - self._began_s:.1f} s"
        if self._console.is_terminal:
            self._live.stop()
            mark = Text("✓ ", style="green") if is_good else Text("✗ ", style="red")
            self._print(mark.append(self._title, style="default").append(f"  {took}", style="dim"))
        else:
            self._print(Text(f"      {'done' if is_good else 'failed'} after {took}"))
        self._title = ""

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _render(self) -> Table | Text:
        if not self._title:
            return Text("")
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, style="dim")
        row.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
        row.expand = True
        row.add_row(self._spinner, Text(self._title), f"{time.monotonic() - self._began_s:.0f} s", Text(self._line))
        return row
