"""A job's progress on stderr: a live bar on a terminal, a line a change elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from comfyworker.jobs import Progress as JobProgress

_GOOD_WAY = 0.2
_SIGN_OF_LIFE_S = 5.0


class ProgressView:
    """Shows the snapshots of one job; a context manager that clears the bar at its end."""

    def __init__(self) -> None:
        """Draw on stderr."""
        self._console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=1.0)
        self._is_live = self._console.is_terminal
        self._last: JobProgress | None = None
        self._last_at = 0.0
        self._begun_at = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bar."""
        if self._is_live:
            self._bar.stop()

    def show(self, progress: JobProgress) -> None:
        """Draw one snapshot."""
        line = describe(progress)
        if self._is_live:
            steps = f" step {progress.step}/{progress.steps}" if progress.steps else ""
            self._bar.update(self._task, completed=progress.value, description=f"{line}{steps}")
        elif self._is_news(progress):
            self._last = progress
            self._last_at = time.monotonic()
            elapsed_s = self._last_at - self._begun_at
            self._console.print(f"{elapsed_s:6.1f} s  {progress.value:4.0%}  {line}", highlight=False, markup=False)

    def say(self, text: str) -> None:
        """Show what happens outside of the job; only where that is live, for it is no news afterwards."""
        if self._is_live:
            self._bar.update(self._task, description=text)

    def _is_news(self, progress: JobProgress) -> bool:
        """Tell whether a snapshot is worth a line: another stage, a good way further, or a sign of life."""
        if self._last is None or progress.message != self._last.message:
            return True
        is_later = time.monotonic() - self._last_at >= _SIGN_OF_LIFE_S
        return progress.value - self._last.value >= _GOOD_WAY or (is_later and progress != self._last)


def describe(progress: JobProgress) -> str:
    """Return what the job is at, as `execute: KSampler (node 3), 4 of 7 nodes done`."""
    stage = progress.message or "done"
    if progress.current_node is None:
        return stage
    name = progress.current_node_class or "node"
    done = f"{progress.nodes_done} of {progress.nodes_total} nodes done"
    return f"{stage}: {name} (node {progress.current_node}), {done}"
