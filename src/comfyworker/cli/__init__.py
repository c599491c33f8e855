"""The `comfyworker` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; `--version` alone is answered without loading anything."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from comfyworker._version import __version__  # noqa: PLC0415  # nothing else is needed

        sys.stdout.write(f"comfyworker {__version__}\n")
        return
    from comfyworker.cli.app import app  # noqa: PLC0415  # typer and rich are for commands that show something

    app()
