"""What the commands that run something share: settings, signals, errors, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import structlog
import typer

from comfyworker.errors import WorkerError
from comfyworker.jobs import JobError
from comfyworker.logs import configure_logs
from comfyworker.settings import (
    Settings,
    exposed_files,
    load_settings,
    near_misses,
    process_environment,
    read_setting_files,
    set_environment_defaults,
    values_of_files,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

T = TypeVar("T")

_LOG_LINES = 12
# What Hugging Face's library reads by itself, in ComfyUI's custom nodes as here.
_READ_BY_LIBRARIES: Final = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)


def prepare(*, quiet_level: str | None = None) -> Settings:
    """Read the settings and set up the log; bad settings end the command with every one of them named.

    Args:
        quiet_level: Level to log at unless LOG_LEVEL says otherwise, for commands that show progress themselves.
    """
    try:
        files = read_setting_files(Path.cwd(), process_environment())
        settings = load_settings(files=files)
    except WorkerError as error:
        fail(JobError.of(error))
    log_settings = settings.log
    if quiet_level is not None and "level" not in log_settings.model_fields_set:
        log_settings = log_settings.model_copy(update={"level": quiet_level})
    configure_logs(log_settings)
    for name, meant in (*near_misses(), *(pair for file in files for pair in near_misses(file.values))):
        log.warning("settings.unknown_name", name=name, meant=meant)
    for file in files:
        if file.doubts:
            log.warning("settings.file_doubted", file=file.label, reason="; ".join(file.doubts))
    for file in exposed_files(files):
        log.warning("settings.file_exposed", file=file.label, advice="chmod 600 keeps others from its secrets")
    found = values_of_files(files)
    set_environment_defaults({name: found[name][0] for name in _READ_BY_LIBRARIES if name in found})
    return settings


def run_to_end(main: Callable[[], Coroutine[object, object, T]], *, farewell: str | None = None) -> T:
    """Run `main` in an event loop; Ctrl-C and SIGTERM cancel it, and when it has cleaned up, the command ends.

    Args:
        main: What to run.
        farewell: What to tell whoever ended it; None is what is true of a command that runs jobs.
    """
    received: list[int] = []

    async def supervised() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: int) -> None:
            received.append(number)
            if task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        return await main()

    with contextlib.suppress(asyncio.CancelledError):
        return asyncio.run(supervised())
    from rich.console import Console  # noqa: PLC0415  # a server that starts shows nothing
    from rich.text import Text  # noqa: PLC0415  # as above

    name = "interrupted" if received[:1] == [signal.SIGINT] else "terminated"
    farewell = farewell or f"{name}: the job was taken back, ComfyUI is stopped"
    Console(stderr=True).print(Text(farewell, style="yellow"))
    raise typer.Exit(EXIT_INTERRUPTED if name == "interrupted" else EXIT_TERMINATED)


def fail(error: JobError, *, code: int = EXIT_FAILED) -> NoReturn:
    """Print an error for a person on stderr and end the command."""
    print_error(error)
    raise typer.Exit(code)


def print_error(error: JobError) -> None:
    """Print an error for a person on stderr: every problem on a line of its own, then what to do."""
    from rich.console import Console  # noqa: PLC0415  # a server that starts shows nothing
    from rich.text import Text  # noqa: PLC0415  # as above

    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal  # whoever searches or copies from a file wants whole lines
    problems = [str(problem.get("message", "")) for problem in error.problems]
    console.print(Text.assemble(("error ", "bold red"), (f"[{error.code}] ", "red")), end="")
    if len(problems) > 1:
        console.print(f"{len(problems)} problems", markup=False)
        for problem in problems:
            console.print(f"  • {problem}", markup=False)
    else:
        console.print(error.message, markup=False)
    tail = error.details.get("log")
    if isinstance(tail, list) and tail:
        console.print(Text("last lines of ComfyUI's log:", style="dim"))
        for line in tail[-_LOG_LINES:]:
            console.print(Text(f"  {line}", style="dim"))
    if error.hint:
        console.print(Text.assemble(("hint ", "bold cyan"), error.hint))
