"""`comfyworker test`: a job as RunPod would run it, and RunPod's answer."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from comfyworker.cli.answer_files import AnswerFiles
from comfyworker.cli.running import EXIT_FAILED, EXIT_USAGE, fail, prepare, print_error, run_to_end
from comfyworker.cli.test_inputs import read_jobs
from comfyworker.delivery.json_stream import iter_json
from comfyworker.errors import WorkerError
from comfyworker.hosts.startup import SETTINGS, Startup
from comfyworker.hosts.trial import COMPLETED, Document, Job, try_jobs
from comfyworker.jobs import JobError, Progress
from comfyworker.settings import Settings
from comfyworker.waterfall import draw_waterfall

if TYPE_CHECKING:
    from comfyworker.cli.progress import ProgressView


def try_job(
    *,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE|JSON|-",
            help='What to run: `{"input": {…}}`, what belongs into its `input`, a bare workflow, or the '
            "`.runpod/tests.json` of a Hub project; as a file, as JSON, or on standard input. May be repeated. Without "
            "it, `test_input.json` in this folder, else a small job that needs no model.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Save the files that are inside the answer in this folder, and print their paths instead.",
        ),
    ] = None,
) -> None:
    """Run a job as RunPod would run it, without RunPod, and print what RunPod would answer.

    One JSON document a job on stdout: `id`, `status` (COMPLETED or FAILED), `delayTime` and `executionTime` in
    milliseconds, `output`, `error`. RunPod's limits for answers hold. The log goes to stderr. On a terminal, files in
    the answer are shortened. Exit code 0 when all jobs succeeded, 1 when one failed, 2 when the command was wrong, 130
    after Ctrl-C.

    Examples:
        # test_input.json of this folder, else a job that needs no model
        comfyworker test
        comfyworker test --input workflow.json --output out
        comfyworker test --input examples/request.json | jq .status
        # The tests of a project of RunPod's Hub
        comfyworker test --input .runpod/tests.json
    """
    startup = Startup()
    with startup.phase(SETTINGS):
        settings = prepare(quiet_level="warning" if sys.stderr.isatty() else None)
    run_tests(input_ or [], settings, startup, output=output)


def run_tests(given: list[str], settings: Settings, startup: Startup, *, output: Path | None = None) -> None:
    """Run the jobs that the command line names and print each answer; a job that fails ends the command with 1."""
    try:
        jobs = read_jobs(given)
    except WorkerError as error:
        fail(JobError.of(error), code=EXIT_USAGE)
    if not run_to_end(lambda: _run(jobs, settings, startup, output)):
        raise typer.Exit(EXIT_FAILED)


async def _run(jobs: list[Job], settings: Settings, startup: Startup, output: Path | None) -> bool:
    """Run the jobs and print their answers; tell whether all went well."""
    files, failures = AnswerFiles(), 0

    with _Bar(is_shown=_is_watched(settings)) as bar:

        def show_answer(answer: Document) -> None:
            nonlocal failures
            bar.clear()
            failures += answer["status"] != COMPLETED
            failures += not _print(answer, files, output)

        await try_jobs(
            jobs, settings, startup=startup, on_answer=show_answer, on_progress=bar.show, on_artifact=files.note
        )
    if _is_watched(settings) and startup.is_ready:
        bars = [(phase.name, phase.begun_s, phase.ended_s) for phase in startup.so_far().phases]
        sys.stderr.write(f"{draw_waterfall(bars)}\n")
    return not failures


class _Bar:
    """A live bar that makes way for each answer: while it is drawn, stdout is not ours alone."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._drawn = contextlib.ExitStack()
        self._view: ProgressView | None = None

    def __enter__(self) -> Self:
        """Draw that something begins."""
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw no more."""
        self.clear()

    def show(self, progress: Progress) -> None:
        """Draw how far a job is."""
        self._draw()
        if self._view is not None:
            self._view.show(progress)

    def clear(self) -> None:
        """Take it away until there is more to show."""
        self._view = None
        self._drawn.close()

    def _draw(self) -> None:
        if self._is_shown and self._view is None:
            from comfyworker.cli.progress import ProgressView  # noqa: PLC0415  # nobody looks where there is a platform

            self._view = self._drawn.enter_context(ProgressView())


def _is_watched(settings: Settings) -> bool:
    """Tell whether a person sees stderr who has not asked for the log."""
    return sys.stderr.isatty() and "level" not in settings.log.model_fields_set


def _print(answer: Document, files: AnswerFiles, output: Path | None) -> bool:
    """Print one answer; tell whether its files could be saved, if that was asked for."""
    is_saved, shown = True, answer
    try:
        if output is not None:
            shown = files.saved(answer, output)
    except WorkerError as error:
        print_error(JobError.of(error))
        is_saved = False
    if sys.stdout.isatty():
        sys.stdout.write(json.dumps(files.shortened(shown), indent=2, ensure_ascii=False, default=str))
    else:
        for piece in iter_json(shown):
            sys.stdout.buffer.write(piece)
    files.forget()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return is_saved
