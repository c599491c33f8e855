"""Provisioning as its user sees it: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from comfyworker.comfyui.finding import format_bytes
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus

_LINE_EVERY_S = 5.0
_MINUTE_S = 60
_HOUR_S = 3600
_TOTAL = "total"


class ProvisionView:
    """Shows how far provisioning is; a reporter, and a context manager that clears its bars at its end."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`; None is stderr."""
        self._console = console or Console(stderr=True, highlight=False)
        self._console.soft_wrap = not self._console.is_terminal
        self._is_live = self._console.is_terminal
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Figures(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._begun_at = self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._is_live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bars."""
        if self._is_live:
            self._bars.stop()

    def planned(self, items: Sequence[Item]) -> None:
        """Hear what will be done."""
        self._sizes |= {item.key: item.size_bytes or 0 for item in items if item.kind is ItemKind.MODEL}
        if len(self._sizes) > 1 and _TOTAL not in self._tasks:
            self._tasks[_TOTAL] = self._bars.add_task("all models", total=None, is_file=True, step="")
        self._draw_total()

    def begun(self, item: Item) -> None:
        """Hear that an item is being worked at."""
        self._task(item)

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Hear how much of a file is there."""
        self._done[item.key] = done_bytes
        if total_bytes is not None:
            self._sizes[item.key] = total_bytes
        self._bars.update(self._task(item), completed=done_bytes, total=total_bytes)
        self._draw_total()
        if not self._is_live and time.monotonic() - self._line_at >= _LINE_EVERY_S:
            self._say_total()

    def stepped(self, item: Item, text: str) -> None:
        """Hear what is being done."""
        self._bars.update(self._task(item), step=text)

    def ended(self, result: ItemResult) -> None:
        """Hear what came of an item."""
        item = result.item
        task = self._tasks.pop(f"{item.kind} {item.key}", None)
        if task is not None:
            self._bars.remove_task(task)
        if item.kind is ItemKind.MODEL:
            self._done[item.key] = self._sizes.get(item.key, 0)
            self._draw_total()
        if result.status is ItemStatus.PRESENT:
            return
        mark, style = ("✓", "green") if result.status is ItemStatus.DONE else ("✗", "red")
        tail = _describe(result) if result.error is None else result.error.message
        self._print(Text.assemble((f"{mark} ", style), item.title, (f"  {tail}" if tail else "", "dim")))

    def noted(self, text: str) -> None:
        """Hear a sentence."""
        self._print(Text(text, style="yellow"))

    def _task(self, item: Item) -> TaskID:
        name = f"{item.kind} {item.key}"
        if name not in self._tasks:
            is_file = item.kind is ItemKind.MODEL
            total = item.size_bytes if is_file else None
            self._tasks[name] = self._bars.add_task(item.title, total=total, is_file=is_file, step="")
        return self._tasks[name]

    def _draw_total(self) -> None:
        if _TOTAL in self._tasks:
            done, size = sum(self._done.values()), sum(self._sizes.values())
            self._bars.update(self._tasks[_TOTAL], completed=done, total=size or None)

    def _say_total(self) -> None:
        self._line_at = time.monotonic()
        done, size = sum(self._done.values()), sum(self._sizes.values())
        rate = done / max(self._line_at - self._begun_at, 0.001)
        left = f", {_duration((size - done) / rate)} left" if rate and size > done else ""
        self._print(Text(f"{format_bytes(done)} of {format_bytes(size)}, {format_bytes(round(rate))}/s{left}"))

    def _print(self, text: Text) -> None:
        self._console.print(text)


class _Figures(ProgressColumn):
    """How much of a file is there and how fast it comes, or what is being done for a custom node."""

    def render(self, task: Task) -> Text:
        if task.fields["step"] or not task.fields["is_file"]:
            return Text(str(task.fields["step"]), style="dim", no_wrap=True, overflow="ellipsis")
        figures = format_bytes(int(task.completed))
        if task.total:
            figures += f" of {format_bytes(int(task.total))}"
        if task.speed:
            figures += f"  {format_bytes(int(task.speed))}/s"
        if task.time_remaining is not None and not task.finished:
            figures += f"  {_duration(task.time_remaining)} left"
        return Text(figures, style="dim", no_wrap=True)


def _describe(result: ItemResult) -> str:
    seconds = _duration(result.seconds)
    if result.item.kind is not ItemKind.MODEL:
        return seconds
    if not result.fetched_bytes:
        return f"{format_bytes(result.item.size_bytes or 0)}, without a download"
    rate = format_bytes(round(result.fetched_bytes / max(result.seconds, 0.001)))
    return f"{format_bytes(result.fetched_bytes)} in {seconds}, {rate}/s"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # tenths matter to no one later
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min {seconds % _MINUTE_S:02.0f} s"
    return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:02.0f} min"
