"""`comfyworker settings`: every setting with its value and where that comes from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from comfyworker.cli.running import EXIT_USAGE, fail, prepare
from comfyworker.jobs import JobError
from comfyworker.redaction import hide_credentials, hide_queries
from comfyworker.settings import (
    SettingEntry,
    Settings,
    list_settings,
    process_environment,
    read_setting_files,
    values_of_files,
)


def _names() -> list[tuple[str, str]]:
    """Return what a shell completes: the first name of each setting, and what it does."""
    return [(entry.names[0], entry.description) for entry in list_settings()]


def show_settings(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Only these, by their variables.", autocompletion=_names, show_default=False
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """List every setting: its environment variable, its value and source, and what it does. Secrets are masked.

    Examples:
        comfyworker settings
        comfyworker settings JOB_TIMEOUT_S API_KEYS
        JOB_TIMEOUT_S=60 comfyworker settings --json
    """
    environ = process_environment()  # as it was given: prepare() hands on to libraries what files say
    settings = prepare(quiet_level="warning")
    found = values_of_files(read_setting_files(Path.cwd(), environ), environ)
    files = {name: file.label for name, (_, file) in found.items()}
    rows = [(entry, *_value(settings, entry)) for entry in _chosen(names or [])]
    if as_json:
        typer.echo(
            json.dumps(
                {
                    entry.names[0]: {"value": value, "is_set": is_set, "from": _source(entry, files, is_set=is_set)}
                    for entry, value, is_set in rows
                },
                indent=2,
            )
        )
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("variable", "value", "from", "what it does"):
        table.add_column(heading, overflow="fold")
    for entry, value, is_set in rows:
        table.add_row(", ".join(entry.names), value, _source(entry, files, is_set=is_set), entry.description)
    Console().print(table)


def _chosen(names: list[str]) -> list[SettingEntry]:
    """Return the settings of these names, all if there is none; a name that means none ends the command."""
    entries = list_settings()
    known = {name: entry for entry in entries for name in entry.names}
    unknown = [name for name in names if name not in known]
    if unknown:
        near = [near for name in unknown for near in difflib.get_close_matches(name.upper(), known, n=1)]
        hint = f"Did you mean {' '.join(near)}?" if near else "`comfyworker settings` lists them all."
        message = f"no setting is called {', '.join(unknown)}"
        fail(JobError(code="invalid_request", message=message, hint=hint), code=EXIT_USAGE)
    wanted = [known[name] for name in names]
    return [entry for entry in entries if entry in wanted or not names]


def _source(entry: SettingEntry, files: Mapping[str, str], *, is_set: bool) -> str:
    return next((files[name] for name in entry.names if name in files), "environment" if is_set else "default")


def _value(settings: Settings, entry: SettingEntry) -> tuple[str, bool]:
    """Return a setting's value for people, and whether the environment or a file gave it."""
    group = getattr(settings, entry.group)
    value, is_set = getattr(group, entry.field), entry.field in group.model_fields_set
    if isinstance(value, SecretStr):
        return "********", is_set
    shown = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
    return hide_queries(hide_credentials(shown)), is_set
