"""One server for a whole test run, which ends with the run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from support.keeper import Plan
from support.source import REPOSITORY

KEEPER = REPOSITORY / "tests/support/keeper.py"

Facts = dict[str, Any]
"""What the tests have to know of a server that runs; JSON."""


def shared_server(shared_dir: Path, name: str, prepare: Callable[[Path], tuple[Plan, Facts]]) -> Facts:
    """Return the facts of the server `name`; the first process that asks starts it, the others wait for that.

    The process id comes with the facts, as `pid`.

    Args:
        shared_dir: A folder that all processes of the run know, and no other run.
        name: What its files there are called.
        prepare: Is given a folder that is not yet there, makes the server's folder, and says how to start it.

    Raises:
        RuntimeError: It did not start, now or when another process asked.
    """
    record = shared_dir / f"{name}.json"
    with FileLock(shared_dir / f"{name}.lock"):
        if not record.exists():
            plan, facts = prepare(shared_dir / name)
            record.touch(mode=0o600)  # the facts have keys in them
            record.write_text(json.dumps({**facts, **_keep(plan, shared_dir / f"{name}-keeper.log")}), encoding="utf-8")
        found: Facts = json.loads(record.read_text(encoding="utf-8"))
    if found["error"]:
        raise RuntimeError(found["error"])
    return found


def _keep(plan: Plan, log_path: Path) -> Facts:
    with log_path.open("wb") as log:
        keeper = [sys.executable, str(KEEPER), plan.to_json()]
        done = subprocess.run(keeper, stdout=subprocess.PIPE, stderr=log, start_new_session=True, check=True)
    if not done.stdout:
        return {"error": f"the keeper of {plan.name} ended:\n{log_path.read_text(errors='replace')}", "pid": 0}
    answer: Facts = json.loads(done.stdout)
    return answer
