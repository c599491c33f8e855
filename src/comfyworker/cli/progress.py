"""A job's progress on stderr: a live bar on a terminal, a line a change elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from comfyworker.jobs import Progress as JobProgress


class ProgressView:
    """Shows the snapshots of one job; a context manager that clears the bar at its end."""

    def __init__(self) -> None:
        """Draw on stderr."""
        self._console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=1.0)
        self._is_live = self._console.is_terminal
        self._last_line = ""
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
        elif line != self._last_line:
            elapsed_s = time.monotonic() - self._begun_at
            self._console.print(f"{elapsed_s:6.1f} s  {progress.value:4.0%}  {line}", highlight=False, markup=False)
        self._last_line = line


def describe(progress: JobProgress) -> str:
    """Return what the job is at, as `execute: KSampler (node 3), 4 of 7 nodes done`."""
    stage = progress.message or "done"
    if progress.current_node is None:
        return stage
    name = progress.current_node_class or "node"
    done = f"{progress.nodes_done} of {progress.nodes_total} nodes done"
    return f"{stage}: {name} (node {progress.current_node}), {done}"
