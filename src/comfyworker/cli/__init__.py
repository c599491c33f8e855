"""The `comfyworker` command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run the command; `--version` alone is answered without loading anything."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from comfyworker._version import __version__  # noqa: PLC0415  # nothing else is needed

        sys.stdout.write(f"comfyworker {__version__}\n")
        return
    from comfyworker.cli.app import app  # noqa: PLC0415  # typer and rich are for commands that show something

    try:
        app()
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 0)


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
