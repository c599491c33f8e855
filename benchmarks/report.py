"""The figures of a run beside their budgets: as a table for people, as JSON for programs."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

LATEST = Path(__file__).resolve().parent / "results/latest.json"


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    what: str
    unit: str
    floor: float | None
    """What the bare client takes; None where there is nothing to compare with."""
    ours: float
    rounds: int
    budget: float | None = None
    """What `ours` may be at most, or must be at least; None for a figure that is only shown."""
    is_more_better: bool = False
    """Whether the budget is the least."""
    rule: str = ""
    """How the budget comes about, in words."""
    details: dict[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the budget is met; None if there is none."""
        if self.budget is None:
            return None
        return self.ours >= self.budget if self.is_more_better else self.ours <= self.budget


@dataclass(frozen=True)
class Report:
    """All figures of one run."""

    rows: tuple[Row, ...]
    comfyui_version: str
    cores: int
    load_before: float
    """The machine's load average over the last minute; others' work makes all figures worse."""
    load_after: float
    duration_s: float

    @property
    def is_met(self) -> bool:
        """Whether no budget is missed."""
        return all(row.is_met is not False for row in self.rows)


def print_table(report: Report, console: Console) -> None:
    """Print the figures, and whether each is within its budget."""
    table = Table(
        title=f"ComfyUI {report.comfyui_version} on {report.cores} cores, load {report.load_before:.2f} before and "
        f"{report.load_after:.2f} after, {report.duration_s:.0f} s"
    )
    table.add_column("what", ratio=1, overflow="fold")
    for column in ("floor", "ours", "difference", "ratio", "budget"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in report.rows:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Row) -> list[str]:
    difference = ratio = floor = "-"
    if row.floor is not None:
        floor = f"{row.floor:.2f}"
        difference = f"{row.ours - row.floor:+.2f}"
        ratio = f"{row.ours / row.floor:.2f}" if row.floor > 0 else "-"
    budget = "-" if row.budget is None else f"{'≥' if row.is_more_better else '≤'} {row.budget:.2f}"
    verdict = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[row.is_met]
    return [f"{row.what} [dim]({row.unit})[/]", floor, f"{row.ours:.2f}", difference, ratio, budget, verdict]


def to_json(report: Report) -> str:
    """Return the report as JSON."""
    rows = [{**asdict(row), "is_met": row.is_met} for row in report.rows]
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"taken_at": taken_at, "is_met": report.is_met, **asdict(report), "rows": rows}, indent=2)


def save_report(report: Report) -> None:
    """Keep the report as the latest one."""
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(to_json(report) + "\n", encoding="utf-8")
