"""`comfyworker handle`: one request in, exactly the answer that a platform would get out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, fail, prepare, run_to_end
from comfyworker.delivery.json_stream import iter_json
from comfyworker.dialects import DIALECT_NAMES, Dialect, dialect_named
from comfyworker.errors import InvalidRequest
from comfyworker.hosts.local import answer
from comfyworker.jobs import JobError


def handle(
    file: Annotated[
        str, typer.Argument(help='File with one request as JSON: `{"input": {…}}`; `-` reads standard input.')
    ] = "-",
    dialect: Annotated[
        str | None,
        typer.Option(
            "--dialect",
            metavar="NAME",
            autocompletion=lambda: list(DIALECT_NAMES),
            help=f"Answer as the clients of this worker know it: {', '.join(DIALECT_NAMES)}. "
            "Without it, the request's `response_format` decides, else RESPONSE_FORMAT.",
        ),
    ] = None,
) -> None:
    """Run one request as a platform would, and print exactly the JSON that it would get.

    The answer goes to stdout, the log to stderr. Exit code 0 when the job succeeded, 1 when it failed,
    130 after Ctrl-C.

    Examples:
        comfyworker handle examples/request.json
        cat request.json | comfyworker handle > answer.json
        # As the clients of another worker want their answers
        comfyworker handle --dialect flux examples/request.json
    """
    settings = prepare()
    spoken = None if dialect is None else _named(dialect)
    content = _read(file)

    async def main() -> tuple[dict[str, JsonValue], bool]:
        return await answer(content, settings, dialect=spoken)

    document, is_success = run_to_end(main)
    for piece in iter_json(document):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    if not is_success:
        raise typer.Exit(EXIT_FAILED)


def _named(name: str) -> Dialect:
    """Return the dialect of this name; one that there is not ends the command."""
    try:
        return dialect_named(name)
    except InvalidRequest as error:
        fail(JobError.of(error), code=EXIT_USAGE)


def _read(file: str) -> bytes:
    """Return the request's bytes; a file that cannot be read ends the command."""
    if file == "-" and sys.stdin.isatty():
        Console(stderr=True).print("Reading one request from the terminal; Ctrl-D ends it.", style="dim")
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        refusal = InvalidRequest(
            f"{file}: {reason}", hint="Name a file that holds one request as JSON, or - for stdin."
        )
        fail(JobError.of(refusal), code=EXIT_USAGE)
