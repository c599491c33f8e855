"""The installed command, called as a user calls it."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from support.real_comfyui import RealComfyUI

COMMAND = (sys.executable, "-m", "comfyworker")


@dataclass(frozen=True)
class Done:
    """What a finished command left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout, which must be one JSON document and nothing else."""
        return orjson.loads(self.out)


def environment(comfyui: RealComfyUI | None = None, **variables: str) -> dict[str, str]:
    """Return a clean environment; with `comfyui`, one in which the command uses that and starts none.

    Without one no job can leave anything behind, so there is no state folder either.
    """
    # MAKE…: a `make` of a test that `make test` runs would take itself for a part of that one, and talk of it.
    own = ("COMFY", "PYTEST_", "PYTHON", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    kept["STATE_DIR"] = os.devnull
    if comfyui is not None:
        kept |= {"COMFY_API_URL": comfyui.url, "COMFYUI_BASE_DIR": str(comfyui.base_dir)}
        kept["STATE_DIR"] = str(comfyui.base_dir / "state")
    return {**kept, "COLUMNS": "120", **variables}


def call(*args: str, environ: Mapping[str, str], cwd: Path, stdin: bytes = b"", wrapper: tuple[str, ...] = ()) -> Done:
    """Run the command to its end; `wrapper` is a program that starts it."""
    done = subprocess.run(
        [*wrapper, *COMMAND, *args], env=dict(environ), cwd=cwd, input=stdin, capture_output=True, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


async def start(*args: str, environ: Mapping[str, str], cwd: Path) -> asyncio.subprocess.Process:
    """Start the command and return while it runs."""
    return await asyncio.create_subprocess_exec(
        *COMMAND, *args, env=dict(environ), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def stop(process: asyncio.subprocess.Process, number: signal.Signals) -> Done:
    """Send a signal and return what the command left at its end."""
    process.send_signal(number)
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


def call_on_terminal(*args: str, environ: Mapping[str, str], cwd: Path, typed: bytes = b"") -> tuple[int, str]:
    """Run the command on a terminal where `typed` is typed ahead; return its exit code and all that it wrote there."""
    near, far = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, *args], env={**environ, "TERM": "xterm-256color"}, cwd=cwd, stdin=far, stdout=far, stderr=far
        )
        os.close(far)
        os.write(near, typed)
        chunks = []
        while True:
            try:
                chunk = os.read(near, 65536)
            except OSError:  # Linux says EIO when the last writer has closed
                break
            if not chunk:
                break
            chunks.append(chunk)
        return process.wait(), b"".join(chunks).decode(errors="replace")
    finally:
        os.close(near)
