"""The `comfyworker` command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run the command; `--version` alone, and a shell that completes, are answered without loading anything."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from comfyworker._version import __version__  # noqa: PLC0415  # nothing else is needed

        sys.stdout.write(f"comfyworker {__version__}\n")
        return
    from comfyworker.cli.completion import answer_shell  # noqa: PLC0415  # as above

    if answer_shell():
        return
    from comfyworker.importing import undisturbed  # noqa: PLC0415  # `--version` needs nothing

    with undisturbed():
        _load_structlog()
        from comfyworker.cli.app import app  # noqa: PLC0415  # after structlog, which most of it imports

    try:
        app()
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 0)


def _load_structlog() -> None:
    """Import structlog without rich, of which it would take tracebacks that show local variables, and secrets in them.

    We have it draw plain ones; what it imports rich for nevertheless takes as long as all the rest of it.
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's own way to say that there is no such module
    try:
        import structlog  # noqa: F401, PLC0415  # here, so that it looks for rich now
    finally:
        del sys.modules["rich"]


def _leave(code: int) -> NoReturn:
    """End the process; where obstore was used, without the interpreter's own clean-up.

    A thread of obstore's may let go of Python's objects just when the interpreter shuts down, and is aborted with the
    whole process: 1 of 75 commands that had succeeded ended with SIGABRT, 2 of 25 of obstore's own uploads.
    """
    if "obstore" not in sys.modules:
        raise SystemExit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads them any more
            stream.flush()
    os._exit(code)
