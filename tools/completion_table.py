"""What shells complete, as a table: src/comfyworker/cli/completion.json, written from the commands."""

import json
from typing import Any

import typer.main

from comfyworker.cli.app import COMMANDS, app
from comfyworker.cli.help import summary_of


def completion_table() -> str:
    """Return the table as JSON, one line for each command, option and argument."""
    root: Any = typer.main.get_command(app)  # Any: typer's command classes are its own affair
    table = _command(root, root.make_context("comfyworker", [], resilient_parsing=True))
    for name, entry in COMMANDS.items():
        table["commands"][name]["help"] = entry.summary
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def _command(command: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
    children = getattr(command, "commands", {})
    options = [item for item in command.get_params(context) if item.opts[0].startswith("-") and not item.hidden]
    arguments = [item for item in command.params if not item.opts[0].startswith("-")]
    return {
        "help": summary_of(command.help),
        "options": [_option(item, context) for item in options],
        "arguments": [{"many": item.nargs == -1, "values": _values(item, context)} for item in arguments],
        "commands": {
            name: _command(child, child.make_context(name, [], parent=context, resilient_parsing=True))
            for name, child in children.items()
        },
    }


def _option(option: Any, context: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
    return {
        "names": sorted((*option.opts, *option.secondary_opts), key=lambda name: not name.startswith("--")),
        "help": _sentence(option.help),
        "many": option.multiple,
        "values": None if option.is_flag else _values(option, context),
    }


def _values(parameter: Any, context: Any) -> list[tuple[str, str]]:  # noqa: ANN401  # as above
    return [(item.value, _sentence(item.help)) for item in parameter.shell_complete(context, "") if item.value]


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).partition(". ")[0].removesuffix(".")
