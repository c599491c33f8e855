"""What keeps ComfyUI for a test run lets nothing outlive that run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import keeper
from support.eventually import eventually
from support.ports import free_port
from support.processes import is_running, parent_of

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that stands for a test run."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def start(plan: keeper.Plan) -> dict[str, object]:
    """Start a keeper and return what it says."""
    done = subprocess.run([sys.executable, keeper.__file__, plan.to_json()], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def make_plan(tmp_path: Path, owner: subprocess.Popen[bytes], code: str) -> keeper.Plan:
    """Return a plan for a server that runs `code`, with a folder of its own."""
    port = free_port()
    base_dir = tmp_path / "base"
    base_dir.mkdir()
    return keeper.Plan(
        owner_pid=owner.pid,
        command=[sys.executable, "-c", code, str(port)],
        cwd=str(tmp_path),
        url=f"http://127.0.0.1:{port}",
        base_dir=str(base_dir),
        log_path=str(tmp_path / "log"),
    )


async def test_the_server_ends_with_its_owner(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    """A run that is killed leaves neither the server nor its folder."""
    plan = make_plan(tmp_path, owner, SERVER)
    state = start(plan)
    pid = int(str(state["pid"]))
    assert (state["error"], is_running(pid)) == (None, True)

    owner.kill()
    owner.wait()

    await eventually(lambda: not is_running(pid) and not Path(plan.base_dir).exists())


async def test_the_server_ends_with_its_keeper(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    """A keeper that is killed takes the server along."""
    pid = int(str(start(make_plan(tmp_path, owner, SERVER))["pid"]))

    os.kill(parent_of(pid), signal.SIGKILL)

    await eventually(lambda: not is_running(pid))


def test_a_server_that_ends_is_an_error_with_its_log(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    """Whoever waits for the start is told why there is none."""
    state = start(make_plan(tmp_path, owner, "raise SystemExit('no such model')"))
    assert state["error"] == "ComfyUI ended with 1; its last lines:\nno such model\n"
