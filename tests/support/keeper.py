"""Keep one server (a ComfyUI, an object store) running for as long as a test run lives, and not a moment longer.

Runs as a process of its own: `python keeper.py PLAN`, where PLAN is the JSON of `Plan`. It says on stdout, in one line
of JSON, when the server answers or why it never will. Then it waits until the owner (the pytest process that governs
the run) is gone, however it went, and ends the server and removes its folders. Should the keeper itself be killed, the
kernel ends the server.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOOK_INTERVAL_S = 0.05
LOG_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Plan:
    """What to keep, and for whom."""

    owner_pid: int
    """The server ends when this process does."""
    command: list[str]
    cwd: str
    url: str
    base_dir: str
    """Removed at the end."""
    log_path: str
    environ: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    name: str = "ComfyUI"
    """What messages call the server."""
    probe: str = "/system_stats"
    """The path that answers once the server is ready."""
    ready_status: int = 200
    """What it answers then."""

    def to_json(self) -> str:
        """Return the plan as the keeper's argument."""
        return json.dumps(asdict(self))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(plan: Plan) -> bool:
    try:
        with urllib.request.urlopen(plan.url + plan.probe, timeout=5) as answer:
            return bool(answer.status == plan.ready_status)
    except urllib.error.HTTPError as error:
        return error.code == plan.ready_status
    except OSError:
        return False


def _wait_ready(plan: Plan, process: subprocess.Popen[bytes], owner: int) -> str | None:
    """Return None once the server answers, or why it does not."""
    deadline = time.monotonic() + plan.start_timeout_s
    while not _answers(plan):
        if process.poll() is not None:
            return f"{plan.name} ended with {process.returncode}"
        if time.monotonic() > deadline:
            return f"{plan.name} did not answer within {plan.start_timeout_s:.0f} s"
        # Polled: a server tells nobody that it listens. The owner's end cuts the pause short.
        if select.select([owner], [], [], LOOK_INTERVAL_S)[0]:
            return "the test run ended"
    return None


def _report(state: dict[str, object]) -> None:
    print(json.dumps(state), flush=True)
    # Whoever started us reads to the end of the stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def keep(plan: Plan) -> None:
    """Start the server, say how that went, and wait for the owner's end."""
    owner = os.pidfd_open(plan.owner_pid)
    with Path(plan.log_path).open("wb") as log:
        process = subprocess.Popen(
            plan.command,
            cwd=plan.cwd,
            env=plan.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal goes to pytest alone
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # the keeper has one thread
        )
    try:
        error = _wait_ready(plan, process, owner)
        if error:
            tail = Path(plan.log_path).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            error = f"{error}; its last lines:\n{tail}"
        _report({"pid": process.pid, "error": error})
        if not error:
            select.select([owner], [], [])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(plan.base_dir, ignore_errors=True)


if __name__ == "__main__":
    # It outlives the worker that started it, so it is nobody's child: no one has to wait for it.
    if os.fork():
        os._exit(0)
    keep(Plan(**json.loads(sys.argv[1])))
