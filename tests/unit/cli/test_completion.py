"""What a shell is told that completes a call of the command."""

import subprocess
import sys

import pytest

from comfyworker.cli.completion import ASKED, TABLE, candidates
from support.source import REPOSITORY

IS_ASKED = f"""
import os, sys
os.environ.update({{"{ASKED}": "complete_bash", "COMP_WORDS": "comfyworker\\nconfig\\n", "COMP_CWORD": "2"}})
from comfyworker.cli import main
main()
print(*(name for name in ("typer", "pydantic", "structlog", "asyncio") if name in sys.modules), file=sys.stderr)
"""

FILE = {"names": ["--file", "-f"], "help": "A file", "many": False, "values": []}
ONLY = {"names": ["--only"], "help": "A half", "many": False, "values": [["models", "m"], ["nodes", "n"]]}
SET = {"names": ["--set"], "help": "One of many", "many": True, "values": []}
JSON = {"names": ["--json"], "help": "For programs", "many": False, "values": None}
PLAN = {"help": "Plan", "options": [FILE, ONLY, SET, JSON], "arguments": [], "commands": {}}
SHOW = {
    "help": "Show",
    "options": [],
    "arguments": [{"many": True, "values": [["A_1", ""], ["A_2", ""]]}],
    "commands": {},
}
COMMAND = {"help": "", "options": [JSON], "arguments": [], "commands": {"plan": PLAN, "show": SHOW}}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("|", ["plan", "show"]),
        ("p|", ["plan"]),
        ("x|", []),
        ("-|", ["--json"]),
        ("plan|", ["plan"]),
        ("plan |", ["--file", "--only", "--set", "--json"]),
        ("plan --f|", ["--file"]),
        ("plan -|", ["--file", "-f", "--only", "--set", "--json"]),
        ("plan --json --|", ["--file", "--only", "--set"]),
        ("plan -f x --|", ["--only", "--set", "--json"]),
        ("plan --set a --s|", ["--set"]),
        ("plan --only |", ["models", "nodes"]),
        ("plan --only mo|", ["models"]),
        ("plan --only=mo|", ["--only=models"]),
        ("plan --file |", []),
        ("plan --file show |", ["--only", "--set", "--json"]),
        ("show |", ["A_1", "A_2"]),
        ("show A_1 A_|", ["A_1", "A_2"]),
        ("--json show --|", []),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_can_stand_at_the_cursor(words: str, expected: list[str]) -> None:
    """Commands, values of the option or argument that is next, and options that are not there yet."""
    assert [value for value, _ in candidates(COMMAND, words.removesuffix("|").split(" "))] == expected


def test_the_table_is_part_of_the_package() -> None:
    """It lies beside the module that reads it, so every wheel has it."""
    assert (REPOSITORY / "src/comfyworker/cli" / TABLE).is_file()


def test_a_shell_is_answered_without_the_worker() -> None:
    """Nothing is imported that takes long: somebody waits at the keyboard."""
    done = subprocess.run([sys.executable, "-c", IS_ASKED], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["validate", "plan", "apply", "schema"]
    assert done.stderr.split() == []
