"""`comfyworker doctor`: what the worker would run on, and what to do about what is wrong."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from comfyworker._version import __version__
from comfyworker.comfyui.diagnosis import diagnose
from comfyworker.comfyui.finding import Finding, Level, worst_level
from comfyworker.comfyui.model_places import find_model_places
from comfyworker.delivery.store import check_store_settings, find_location
from comfyworker.errors import InvalidSettings, WorkerError
from comfyworker.hosts.prefetching import check_reachable
from comfyworker.prefetch.findings import prefetch_findings
from comfyworker.settings import (
    SettingFile,
    Settings,
    exposed_files,
    load_settings,
    near_misses,
    process_environment,
    read_setting_files,
)

_MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False
) -> None:
    """Say what was found: ComfyUI, its Python and torch, GPU, disk, models, volumes, settings; and what to do about it.

    Exit code 1 when something keeps the worker from working, else 0.

    Examples:
        comfyworker doctor
        # What it would say of another ComfyUI
        COMFYUI_PATH=/workspace/ComfyUI comfyworker doctor
        comfyworker doctor --json | jq .level
    """
    settings, of_settings = _read_settings()
    of_comfyui = asyncio.run(diagnose(settings.comfyui, settings.volume, cwd=Path.cwd()))
    of_place = (*_storage_findings(settings), *_prefetch_findings(settings))
    findings = (_worker_finding(), *of_comfyui, *of_place, *of_settings)
    level = worst_level(findings)
    if as_json:
        _print_json(findings, level)
    else:
        _print_table(findings, level, Console(highlight=False))
    if level is Level.PROBLEM:
        raise typer.Exit(1)


def _read_settings() -> tuple[Settings, list[Finding]]:
    """Return the settings, those that do not fit left at their defaults, and what is to be said about them."""
    files, findings = _read_files()
    findings += [
        Finding(
            area="settings",
            level=Level.WARNING,
            text=f"{name} is set, but means nothing to the worker.",
            advice=f"Did you mean {meant}?",
            facts={"name": name, "meant": meant},
        )
        for name, meant in (*near_misses(), *(pair for file in files for pair in near_misses(file.values)))
    ]
    try:
        settings = load_settings(files=files)
        return settings, findings or [Finding(area="settings", level=Level.OK, text="Every setting fits.")]
    except InvalidSettings as error:
        bad = {name for problem in error.problems for name in (problem.path or "").split()}
        findings += [
            Finding(
                area="settings",
                level=Level.PROBLEM,
                text=f"{problem.message}.",
                advice="Correct or unset it.",
                facts={"name": problem.path},
            )
            for problem in error.problems
        ]
    rest = {name: value for name, value in process_environment().items() if name not in bad}
    fitting = [
        file.model_copy(update={"values": {name: value for name, value in file.values.items() if name not in bad}})
        for file in files
    ]
    try:
        return load_settings(rest, fitting), findings
    except InvalidSettings:
        return load_settings({}), findings  # another of its aliases is wrong as well, and is told after this one


def _read_files() -> tuple[tuple[SettingFile, ...], list[Finding]]:
    """Return the files of settings, and what is to be said about them."""
    files = read_setting_files(Path.cwd(), process_environment())
    doubted = [
        Finding(
            area="settings",
            level=Level.WARNING,
            text=f"{file.label}: {doubt}.",
            advice="A line is NAME=value, a comment that begins with #, or blank; a quoted value ends with its quote.",
            facts={"file": file.label},
        )
        for file in files
        for doubt in file.doubts
    ]
    return files, doubted + [
        Finding(
            area="settings",
            level=Level.WARNING,
            text=f"{file.label} holds a secret and others than its owner may read it.",
            advice="chmod 600 keeps them out.",
            facts={"file": file.label},
        )
        for file in exposed_files(files)
    ]


def _storage_findings(settings: Settings) -> list[Finding]:
    """Return where outputs go, if anything is said of it; that it works is tried by a command of its own."""
    try:
        is_configured = check_store_settings(settings.store)
        location = find_location(settings.store) if is_configured else None
    except WorkerError as error:
        return [Finding(area="storage", level=Level.PROBLEM, text=f"{error.message}.", advice=error.hint)]
    if location is None:
        return []
    return [
        Finding(
            area="storage",
            level=Level.OK,
            text=f"Outputs go to {location.place}; `comfyworker storage check` tries it.",
            facts={"place": location.place},
        )
    ]


def _prefetch_findings(settings: Settings) -> list[Finding]:
    """Return how models are brought nearer, if they shall be."""
    try:
        check_reachable(settings)
    except InvalidSettings as error:
        return [Finding(area="prefetch", level=Level.PROBLEM, text=f"{error.message}.", advice=error.hint)]
    places = find_model_places(settings.volume, cwd=Path.cwd(), own_models=None)
    return prefetch_findings(settings.volume, [place.root for place in places if place.problem is None])


def _worker_finding() -> Finding:
    python = platform.python_version()
    text = f"comfyworker {__version__}, on Python {python}."
    return Finding(area="worker", level=Level.OK, text=text, facts={"version": __version__, "python": python})


def _print_table(findings: tuple[Finding, ...], level: Level, console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.level]
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", style=style)
        table.add_row(Text(mark, style=style), finding.area, text)
    console.print(table)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    mark, style = _MARKS[level]
    verdict = "All is well." if level is Level.OK else f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}."
    console.print(Text(f"\n{verdict}", style=style))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_json(findings: tuple[Finding, ...], level: Level) -> None:
    import orjson  # noqa: PLC0415 # only this form of the answer needs it

    answer = {"level": level, "findings": [finding.model_dump(mode="json") for finding in findings]}
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
