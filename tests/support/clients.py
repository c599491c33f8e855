"""Client libraries as their users have them: in an environment of their own, pointed at our server."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from support.source import REPOSITORY

INSTALL = REPOSITORY / "workspace/clients"
SCRIPTS = REPOSITORY / "tests/clients"


def client_program(name: str) -> Path:
    """Return a program of the clients' environment, as `python` or `schemathesis`.

    Raises:
        RuntimeError: There is no such environment.
    """
    program = INSTALL / ".venv/bin" / name
    if not program.exists() or not (INSTALL / ".ready").exists():
        message = f"the tests of the HTTP host need client libraries; {INSTALL} has none. `make clients` makes it."
        raise RuntimeError(message)
    return program


async def run_client(script: str, told: object, *, home: Path, environ: Mapping[str, str] | None = None) -> Any:
    """Run a script of `tests/clients` in the clients' environment; return what it wrote, as JSON.

    Args:
        script: The script's file name.
        told: What it reads as JSON on stdin.
        home: Its home directory, so that it finds no settings of the tester's.
        environ: More variables.
    """
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    process = await asyncio.create_subprocess_exec(
        str(client_program("python")),
        str(SCRIPTS / script),
        env={**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(orjson.dumps(told))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return orjson.loads(out)
