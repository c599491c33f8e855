"""What a shell is told that completes a call of the command: from a table, since it asks at each press of a key.

The scripts that shells load are typer's (`--install-completion`, `--show-completion`), and so is what they ask and
want to hear. Its own way to answer imports the commands and with them most of the worker, 0.7 to 1.4 s of processor
time. The table is written by `make docs` from the commands themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ASKED: Final = "_COMFYWORKER_COMPLETE"
"""The variable by which a shell asks; its value says which one, as `complete_bash`."""
TABLE: Final = "completion.json"

_HELP_CHARS: Final = 70
# In place of what means something to zsh, whatever quotes stand around it.
_HARMLESS: Final = str.maketrans({"'": "’", '"': "”", "`": "", "$": "", "\\": "", ":": ",", "(": "", ")": ""})  # noqa: RUF001

Table = Mapping[str, Any]  # Any: JSON
Candidate = tuple[str, str]
"""What may stand there, and what it means."""


def answer_shell() -> bool:
    """Print what a shell may put at the cursor, if one asks; tell whether one did.

    PowerShell is left to typer.
    """
    shell = os.environ.get(ASKED, "").removeprefix("complete_")
    if shell not in ("bash", "zsh", "fish"):
        return False
    words = _words(shell, os.environ)
    found = list(candidates(_table(), words)) if words else []
    if shell == "fish" and os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        sys.exit(0 if found else 1)
    sys.stdout.write(_FORMS[shell](found))
    return True


def candidates(table: Table, words: Sequence[str]) -> Iterator[Candidate]:
    """Yield what the last of `words`, of which there may be a part, can be.

    Nothing at all leaves it to the shell, which knows the files.

    Args:
        table: The command.
        words: What stands there, without the command's own name.
    """
    *before, begun = words
    here, waiting, count, used = _walk(table, before)
    if waiting is not None:
        yield from _fitting(waiting["values"], begun)
    elif begun.startswith("-") and "=" in begun:
        name, _, part = begun.partition("=")
        values = next((option["values"] or () for option in here["options"] if name in option["names"]), ())
        yield from ((f"{name}={value}", meaning) for value, meaning in _fitting(values, part))
    else:
        places = here["arguments"]
        place = places[min(count, len(places) - 1)] if places and (count < len(places) or places[-1]["many"]) else None
        if not begun.startswith("-"):
            yield from _fitting([(name, child["help"]) for name, child in here["commands"].items()], begun)
            yield from _fitting(place["values"] if place else (), begun)
        if begun.startswith("-") or not (here["commands"] or place or begun):
            yield from _options(here, begun, used)


def _walk(here: Table, words: Sequence[str]) -> tuple[Table, Table | None, int, set[str]]:
    """Follow whole words: which command it is, the option whose value is next, how many arguments and which options."""
    waiting: Table | None = None
    count, used = 0, set[str]()
    for word in words:
        if waiting is not None:
            waiting = None
        elif word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            used.add(name)
            option = next((option for option in here["options"] if name in option["names"]), None)
            waiting = option if option is not None and option["values"] is not None and not equals else None
        elif word in here["commands"]:
            here, count, used = here["commands"][word], 0, set()
        else:
            count += 1
    return here, waiting, count, used


def _options(here: Table, begun: str, used: set[str]) -> Iterator[Candidate]:
    for option in here["options"]:
        if option["many"] or not used & set(option["names"]):
            names = [name for name in option["names"] if name.startswith("--") or begun in ("-", name)]
            yield from _fitting([(name, option["help"]) for name in names], begun)


def _fitting(values: Sequence[Sequence[str]], begun: str) -> Iterator[Candidate]:
    yield from ((value, meaning) for value, meaning in values if value.startswith(begun))


def _words(shell: str, environ: Mapping[str, str]) -> list[str]:
    """Return the words up to the cursor, without the command's name; none where a quote is open."""
    if shell == "bash":
        words = environ.get("COMP_WORDS", "").split("\n")
        position = environ.get("COMP_CWORD", "")
        words = words[: int(position) + 1] if position.isdecimal() else words
        *before, last = words
        # bash takes `=` for a word: `--only=mod` is three.
        return [*(word for word in before[1:] if word != "="), last.removeprefix("=")] if before else []
    import shlex  # noqa: PLC0415  # for these two alone

    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    return [*words[1:], ""] if line[-1:].isspace() else words[1:]


def _table() -> Table:
    import json  # noqa: PLC0415  # here, since any call of the command imports this module

    table: Table = json.loads(Path(__file__).with_name(TABLE).read_bytes())
    return table


def _meaning(text: str) -> str:
    return text if len(text) <= _HELP_CHARS else f"{text[:_HELP_CHARS].rpartition(' ')[0]} …"


def _for_bash(found: Sequence[Candidate]) -> str:
    return "".join(f"{value}\n" for value, _ in found)


def _for_zsh(found: Sequence[Candidate]) -> str:
    """Return code that the script evaluates, as typer's own."""
    rows = " ".join(
        f'"{value}":"{_meaning(meaning).translate(_HARMLESS)}"' if meaning else f'"{value}"' for value, meaning in found
    )
    return f"_arguments '*: :(({rows}))'\n" if found else "_files\n"


def _for_fish(found: Sequence[Candidate]) -> str:
    return "".join(f"{value}\t{_meaning(meaning)}\n" if meaning else f"{value}\n" for value, meaning in found)


_FORMS: Final = {"bash": _for_bash, "zsh": _for_zsh, "fish": _for_fish}
