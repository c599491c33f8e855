"""`comfyworker config`: which models and custom nodes there are, by one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from comfyworker.cli.provision_plan import plan_as_json, plan_problems, print_plan
from comfyworker.cli.provisioning import conclude, locate, require_config, say, say_restart, watch
from comfyworker.cli.running import EXIT_FAILED, prepare
from comfyworker.provision.apply import Applied, Provisioner
from comfyworker.provision.config.schema import json_schema
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.plan import Plan
from comfyworker.provision.reporting import ProvisionReporter
from comfyworker.provision.state import Part
from comfyworker.settings import Settings

app = typer.Typer(help="config.yml: which models and custom nodes ComfyUI has.", no_args_is_help=True)

_File = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="Config to take instead of the one that applies.")
]
_Only = Annotated[
    Literal["models", "nodes"] | None, typer.Option("--only", metavar="models|nodes", help="One half of it alone.")
]
_Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Take nothing for granted: ask every source, read every model, resolve latest and nightly again, and "
        "replace files of others.",
    ),
]
_Locked = Annotated[bool, typer.Option("--locked", help="Reproduce what config.lock.yml says, or fail.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.callback()
def _group() -> None:
    """config.yml: which models and custom nodes ComfyUI has."""  # shown as the group's help


@app.command()
def validate(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The file; without it, the config that applies.")
    ] = None,
) -> None:
    """Check a config.yml; every mistake is named with its line. Nothing is asked of any source.

    Examples:
        comfyworker config validate
        comfyworker config validate configs/flux1-dev.yml
    """
    settings = prepare(quiet_level="error")
    place = locate(settings) if file is None and settings.provision.config_yml is None else None
    found = require_config(settings, place, file)
    models, nodes = len(found.config.models), len(found.config.nodes)
    name = found.path.name if found.path else "CONFIG_YML"
    say(f"{name} is good: {models} {_plural('model', models)}, {nodes} custom {_plural('node', nodes)}")


@app.command()
def plan(
    *, file: _File = None, only: _Only = None, force: _Force = False, locked: _Locked = False, as_json: _Json = False
) -> None:
    """Tell what there is, what would be fetched and installed, and whether the disk has room; change nothing.

    Exit code 1 if something that is required cannot be had.

    Examples:
        comfyworker config plan
        comfyworker config plan --file configs/sdxl.yml --only models --json
    """
    settings = prepare(quiet_level="error")
    _plan(settings, file, only=only, options=ApplyOptions(force=force, locked=locked), as_json=as_json)


@app.command()
def apply(  # noqa: PLR0913  # one parameter for each option
    *,
    file: _File = None,
    only: _Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do as `plan` does.")] = False,
    force: _Force = False,
    locked: _Locked = False,
    check: Annotated[bool, typer.Option(help="Start ComfyUI once to see whether new custom nodes load.")] = True,
    as_json: _Json = False,
) -> None:
    """Make the config true: fetch models, install custom nodes, disable those that it does not name any more.

    What is there already is left alone, what was interrupted goes on where it stopped, and what fails stops nothing
    else. It works beside a running worker: models appear at once, and ComfyUI is started anew if custom nodes changed,
    as soon as no job is on it. Exit code 1 if something failed that is not optional.

    Examples:
        comfyworker config apply
        comfyworker config apply --only models --file my.yml
        # Exactly what config.lock.yml says, as in an image's build
        comfyworker config apply --locked --no-check
    """
    settings = prepare(quiet_level="error")
    options = ApplyOptions(force=force, locked=locked, checks_imports=check)
    if dry_run:
        _plan(settings, file, only=only, options=options, as_json=as_json)
        return
    place = locate(settings)
    found = require_config(settings, place, file)

    async def work(reporter: ProvisionReporter) -> Applied:
        provisioner = Provisioner(found, place, settings.provision, settings.store, reporter=reporter, options=options)
        return await provisioner.apply(only)

    applied = watch(work)
    say_restart(applied, settings)
    conclude(applied, as_json=as_json, what=found.path.name if found.path else "CONFIG_YML")


@app.command()
def schema() -> None:
    """Print the JSON Schema of config.yml, for editors.

    Examples:
        comfyworker config schema > config.schema.json
    """
    typer.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2))


def _plan(settings: Settings, file: Path | None, *, only: Part | None, options: ApplyOptions, as_json: bool) -> None:
    place = locate(settings)
    found = require_config(settings, place, file)

    async def work(reporter: ProvisionReporter) -> Plan:
        provisioner = Provisioner(found, place, settings.provision, settings.store, reporter=reporter, options=options)
        return await provisioner.plan(only)

    made = watch(work)
    problems = plan_problems(made)
    if as_json:
        typer.echo(orjson.dumps(plan_as_json(made), option=orjson.OPT_INDENT_2))
    else:
        print_plan(made, found)
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
