"""`--help` teaches: each command has examples, and each of them can be typed as it stands."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from comfyworker.cli.app import COMMANDS, app
from comfyworker.cli.help import split_examples
from comfyworker.settings import list_settings
from support.source import REPOSITORY

ROOT: Any = typer.main.get_command(app)  # Any: typer's command classes are its own affair
WIDTH = 80
VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=")
# What examples call beside the command, and the characters that lead there.
OTHERS = {"cat", "jq"}
JOINTS = {"|", ">"}


def commands() -> dict[str, Any]:  # Any: as above
    """Return every command that does something, by the words that call it; groups only lead to them."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:  # Any: as above
        children = getattr(command, "commands", None)
        if children is None:
            yield path, command
            return
        for name, child in children.items():
            yield from walk(f"{path} {name}", child)

    return dict(walk("comfyworker", ROOT))


CALLED = commands()


def parts_of(line: str) -> list[list[str]]:
    """Return the commands that a line joins, each as its words; a file that `>` writes is one too."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in JOINTS:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def lines_of(examples: tuple[str, ...]) -> list[str]:
    """Return the examples as a shell reads them: continued lines are one, comments are none."""
    whole = "\n".join(examples).replace("\\\n", " ")
    return [line for line in whole.splitlines() if not line.startswith("#")]


def parse(words: list[str]) -> str:
    """Parse a call as the command does and return what it calls, as `comfyworker models pull`; nothing is run."""
    path, command, rest = words[0], ROOT, words[1:]
    context = command.make_context(path, rest)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
        path += f" {name}"
    return path


def test_a_docstring_is_told_apart_from_its_examples() -> None:
    """The lines of the examples stay as they are, their own indents included."""
    told, examples = split_examples(
        "Do it.\n\n    More.\n\n    Examples:\n        # why\n        a \\\n            b\n    "
    )
    assert (told, examples) == ("Do it.\n\nMore.", ("# why", "a \\", "    b"))


@pytest.mark.parametrize("path", CALLED)
def test_each_command_has_examples_that_can_be_typed(path: str) -> None:
    """Each example is parsed by the command itself: its options are there and take such values."""
    lines = lines_of(CALLED[path].examples)
    calls = [part for line in lines for part in parts_of(line)]
    ours = [words[words.index("comfyworker") :] for words in calls if "comfyworker" in words]
    assert [line for line in lines if "comfyworker" not in line] == []
    assert {parse(words) for words in ours} == {path}


@pytest.mark.parametrize("path", CALLED)
def test_each_example_names_what_there_is(path: str) -> None:
    """Variables before a call are settings, a program beside it is a usual one, and a path leads to a file of ours."""
    settings = {name for entry in list_settings() for name in entry.names}
    for part in [part for line in lines_of(CALLED[path].examples) for part in parts_of(line)]:
        variables = [found[1] for word in part if (found := VARIABLE.match(word)) and word not in part[1:]]
        assert set(variables) <= settings
        words = [word for word in part if not VARIABLE.match(word)]
        assert words[0] in {"comfyworker", *OTHERS} or words == part[:1]
        paths = [word for word in words[1:] if "/" in word and "://" not in word and not word.startswith(("/", "."))]
        assert [word for word in paths if not (REPOSITORY / word).exists()] == []


@pytest.mark.parametrize("path", [*CALLED, *sorted({call.rpartition(" ")[0] for call in CALLED})])
def test_help_fits_a_terminal_of_80_columns(path: str) -> None:
    """No line is longer, so nothing is wrapped that is to be copied; a command's examples stand there whole."""
    context, command = ROOT.make_context("comfyworker", [], resilient_parsing=True), ROOT
    for name in path.split()[1:]:
        command = command.get_command(context, name)
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    context.terminal_width = WIDTH
    shown = command.get_help(context).splitlines()
    assert [line for line in shown if len(line) > WIDTH] == []
    assert [line for line in getattr(command, "examples", ()) if f"  {line}" not in shown] == []


def test_the_list_of_commands_imports_none() -> None:
    """`comfyworker --help` has every command with its summary, in sections, at once."""
    look = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from comfyworker.cli import main\n"
        "try: main()\n"
        "finally: print(*(name for name in sys.modules if name.startswith('comfyworker.cli.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, timeout=60)
    assert sorted(done.stderr.split()) == ["comfyworker.cli.app", "comfyworker.cli.completion", "comfyworker.cli.help"]
    rows = [tuple(line.split(maxsplit=1)) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [row for row in rows if row[0] in COMMANDS] == [(name, entry.summary) for name, entry in COMMANDS.items()]
    assert all(f"\n{entry.section}:\n" in done.stdout for entry in COMMANDS.values())


@pytest.mark.parametrize(
    ("words", "wrong", "meant"),
    [
        (["runn", "x.json"], "No such command 'runn'", "'run'"),
        (["config", "aply"], "No such command 'aply'", "'apply'"),
        (["run", "--imge", "a=b", "x.json"], "No such option: --imge", "--image"),
        (["settings", "JOB_TIMEOUT"], "no setting is called JOB_TIMEOUT", "JOB_TIMEOUT_S"),
        (["config", "plan", "--only", "model"], "Invalid value for '--only'", "models"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_word_is_one_error_with_what_was_meant(
    words: list[str], wrong: str, meant: str, tmp_path: Path
) -> None:
    """Exit code 2, nothing on stdout, no escape codes where no terminal is, and the word that was probably meant."""
    command = [sys.executable, "-m", "comfyworker", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert wrong in done.stderr
    assert meant in done.stderr
    assert "\x1b" not in done.stderr
    assert sum(line.lower().startswith("error") for line in done.stderr.splitlines()) == 1
