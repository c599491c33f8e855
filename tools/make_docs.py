"""Write what comes from the code: pages, files for platforms, a table for shells; with --check, tell what is stale."""

import difflib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import typer.main

from comfyworker import errors
from comfyworker.cli.app import app
from comfyworker.errors import WorkerError
from comfyworker.provision.config.schema import json_schema
from comfyworker.settings import SettingEntry, Settings, list_settings
from tools.completion_table import completion_table
from tools.config_page import config_page
from tools.http_page import http_page
from tools.hub_listing import hub_json, test_input_json, tests_json

REPOSITORY = Path(__file__).resolve().parent.parent
_NOTE = "<!-- Written by `make docs` from {source}; change it there. -->\n"
_TYPES = {"bool": "", "str": "text", "Path": "path", "float": "number", "int": "integer"}


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        _NOTE.format(source="`src/comfyworker/settings`"),
        "Every setting is an environment variable.",
        "An empty variable counts as unset.",
        "Values that do not fit are reported all at once, before anything is started.",
        "What the environment does not set may stand in `.secrets` or `.env` in the working directory.",
        "`comfyworker settings` shows every value as it is now, and where it is from.",
        "`comfyworker doctor` names variables that were probably misspelt.",
    ]
    for group, entries in groupby(list_settings(), key=lambda entry: entry.group):
        title = inspect.getdoc(Settings.model_fields[group].annotation) or group
        lines += ["", f"## {title.splitlines()[0].removesuffix('.')}", ""]
        lines += _table(("variable", "type", "default", "what it does"), (_setting_row(entry) for entry in entries))
    return "\n".join(lines) + "\n"


def _setting_row(entry: SettingEntry) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in entry.names)
    type_name = entry.type_name.replace(" | ", ", ")
    default = entry.default.lower() if entry.type_name.startswith("true") else entry.default.removesuffix(".0")
    return names, type_name, f"`{default}`" if default else "", entry.description


def errors_page() -> str:
    """Return docs/reference/errors.md."""
    lines = [
        "# Errors",
        "",
        _NOTE.format(source="`src/comfyworker/errors.py`"),
        "A failure is an answer: it has a code, a message that says what was wrong and where, and mostly a hint.",
        "The hint says what to do now.",
        "Codes are contract: they are compared by programs and never renamed.",
        "How an error looks in an answer is told with the [dialect](dialects/worker-comfyui.md).",
        "",
        "The HTTP status is that of a request which the [server](http.md) refuses; each of its APIs changes some:",
        "",
        "- RunPod's answers 429 to `queue_full`. A job that has failed is a 200 with `status: FAILED`.",
        "- Comfy API v2's answers 429 to `queue_full`. A job that has failed is a 200 with `status: failed`.",
        "- Vast's has a [table of its own](../howto/serve-vast-clients.md#the-http-status), for jobs too.",
        "",
        "*Again* says whether the same request may succeed later without being changed.",
        "A single error may say otherwise: `worker_restarted` is final when the job ended the worker twice.",
        "[Troubleshooting](../troubleshooting.md) has an entry for each: its messages, why it comes, and what to do.",
        "",
        *_table(("code", "HTTP", "again", "what happened", ""), (_error_row(error) for error in _error_classes())),
    ]
    return "\n".join(lines) + "\n"


def _error_classes() -> Iterator[type[WorkerError]]:
    for value in vars(errors).values():
        if inspect.isclass(value) and issubclass(value, WorkerError) and value is not WorkerError:
            yield value


def _error_row(error: type[WorkerError]) -> tuple[str, ...]:
    meaning = " ".join((inspect.getdoc(error) or "").split())
    anchor = f'<a id="{error.code}"></a>`{error.code}`'
    entry = f"[what to do](../troubleshooting.md#{error.code})"
    return anchor, str(error.http_status), "yes" if error.retryable else "no", meaning, entry


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    lines = [
        "# Command line",
        "",
        _NOTE.format(source="`src/comfyworker/cli/`"),
        "`comfyworker COMMAND --help` says the same in the terminal.",
        "Results go to stdout; progress, logs and errors go to stderr.",
        "What is set by environment variables stands under [settings](settings.md).",
    ]
    for path, command in commands():
        lines += ["", f"## {path}", "", *_command_lines(path, command)]
        lines.pop()  # every part of a command ends with an empty line
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, Any]]:  # Any: typer's command classes are its own affair
    """Yield the words that call each command, with the command, the groups included."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # as above
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(f"{path} {name}", child)

    return walk("comfyworker", typer.main.get_command(app))


def _command_lines(path: str, command: Any) -> Iterator[str]:  # noqa: ANN401  # as above
    arguments = [parameter for parameter in command.params if not _is_option(parameter)]
    options = [parameter for parameter in command.params if _is_option(parameter) and not parameter.hidden]
    words = [_argument_name(argument) for argument in arguments]
    words += ["[OPTIONS]"] if options else []
    words += ["COMMAND …"] if hasattr(command, "commands") else []
    yield f"    {' '.join((path, *words))}"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    for line in getattr(command, "examples", ()):
        yield f"    {line}"
    if hasattr(command, "examples"):
        yield ""
    if hasattr(command, "commands"):
        yield from _table(("command", "what it does"), _children(path, command))
        yield ""
    if arguments:
        yield from _table(("argument", "what it is"), ((f"`{_argument_name(item)}`", item.help) for item in arguments))
        yield ""
    if options:
        yield from _table(("option", "value", "default", "what it does"), (_option_row(option) for option in options))
        yield ""


def _children(path: str, command: Any) -> Iterator[tuple[str, ...]]:  # noqa: ANN401  # as above
    for name, child in command.commands.items():
        summary = " ".join(inspect.cleandoc(child.help or "").split("\n\n")[0].split())
        yield f"[`{name}`](#{path.replace(' ', '-')}-{name})", summary


def _is_option(parameter: Any) -> bool:  # noqa: ANN401  # as above
    return any(name.startswith("-") for name in parameter.opts)


def _argument_name(argument: Any) -> str:  # noqa: ANN401  # as above
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _option_row(option: Any) -> tuple[str, ...]:  # noqa: ANN401  # as above
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = option.type_descriptor.annotation
    value = option.metavar or _TYPES[kind.__name__]
    given = option.show_default if isinstance(option.show_default, str) else None
    default = given or ("" if option.default in (None, False) else _shown_default(option))
    return names, f"`{value}`" if option.metavar else value, default, option.help


def _shown_default(option: Any) -> str:  # noqa: ANN401  # as above
    return f"`{option.opts[0]}`" if option.default is True else f"`{option.default}`"


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heading = tuple(heading)
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def server_page() -> str:
    """Return docs/reference/http.md."""
    return http_page(_NOTE.format(source="`src/comfyworker/hosts/http/`"))


def config_yml_page() -> str:
    """Return docs/reference/config-yml.md."""
    return config_page(_NOTE.format(source="`src/comfyworker/provision/config/schema.py`"))


def config_schema() -> str:
    """Return docs/reference/config.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/cli.md": cli_page,
    "src/comfyworker/cli/completion.json": completion_table,
    "docs/reference/http.md": server_page,
    "docs/reference/config-yml.md": config_yml_page,
    "docs/reference/config.schema.json": config_schema,
    ".runpod/hub.json": hub_json,
    ".runpod/tests.json": tests_json,
    "test_input.json": test_input_json,
}


def stale_pages() -> Iterator[str]:
    """Yield what would change in each page that is not as the code has it."""
    for name, make in PAGES.items():
        path = REPOSITORY / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        change = difflib.unified_diff(old.splitlines(), make().splitlines(), name, "fresh", "", "")
        text = "\n".join(change)
        if text:
            yield text


def main() -> None:
    """Write the pages, or check them."""
    if sys.argv[1:] == ["--check"]:
        stale = list(stale_pages())
        if stale:
            sys.exit("\n".join([*stale, "", "These files are stale: `make docs` writes them anew."]))
        return
    for name, make in PAGES.items():
        path = REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
