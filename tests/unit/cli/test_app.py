"""The command's table: each command is imported when it is asked for."""

import json
import subprocess
import sys

import typer.main

from comfyworker.cli.app import COMMANDS, app

ASK_FOR_ONE = """
import json, sys
from comfyworker.cli.app import app
import typer.main
typer.main.get_command(app).commands[sys.argv[1]]
print(json.dumps(sorted(name for name in sys.modules if name.startswith("comfyworker.cli."))))
"""


def test_the_table_is_the_order_of_the_commands() -> None:
    """The command has what the table has, in its order, under the table's names."""
    command = typer.main.get_command(app)
    assert {name: child.name for name, child in command.commands.items()} == {name: name for name in COMMANDS}  # type: ignore[attr-defined]
    assert list(command.commands) == list(COMMANDS)  # type: ignore[attr-defined]


def test_asking_for_a_command_loads_no_other() -> None:
    """`comfyworker serve` does not wait until what `comfyworker run` needs is imported."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_FOR_ONE, "serve"], check=True, capture_output=True, text=True, timeout=60
    )
    others = {entry.place.split(":")[0] for name, entry in COMMANDS.items() if name != "serve"}
    loaded = set(json.loads(done.stdout))
    assert "comfyworker.cli.serve" in loaded
    assert loaded & others == set()
