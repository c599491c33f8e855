"""Processes of the benchmarks' own."""

import asyncio
import json
import os
import sys
from pathlib import Path

from benchmarks.child import Plan
from benchmarks.uploader import UploadPlan

REPOSITORY = Path(__file__).resolve().parent.parent


def clean_environ() -> dict[str, str]:
    """Return our environment without what changes how Python starts; compiled modules are kept, as after an install."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


async def run_child(plan: Plan | UploadPlan) -> dict[str, float]:
    """Measure one side in a fresh process, and return its figures.

    The plan goes over stdin: it may have keys in it, which everybody could read on a command line.

    Raises:
        RuntimeError: It failed; its own words are on stderr.
    """
    environ = {**clean_environ(), "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", plan.module),
        cwd=REPOSITORY,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await child.communicate(plan.to_json().encode())
    if child.returncode:
        message = f"{plan.module} for the {plan.side} ended with {child.returncode}"
        raise RuntimeError(message)
    return dict(json.loads(out))
