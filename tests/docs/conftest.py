"""What the pages of the docs share while they are followed."""

import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import environment
from support.docs.blocks import doc_blocks, doc_pages
from support.docs.place import Shared
from support.docs.reasons import summary
from support.keeper import Plan
from support.ports import free_port
from support.real_comfyui import RealComfyUI
from support.shared_server import Facts, shared_server
from support.stash import OWNER_PID

_SMALL_JOB = b'{"input": {"workflow": {"1": {"class_type": "PreviewAny", "inputs": {"source": "docs"}}}}}'


@pytest.fixture
def shared(
    comfyui: RealComfyUI, pytestconfig: pytest.Config, request: pytest.FixtureRequest, _shared_dir: Path
) -> Shared:
    """Return what the pages share, beside the ComfyUI nothing of it started yet."""
    owner = pytestconfig.stash[OWNER_PID]

    def server_port() -> int:
        facts = shared_server(_shared_dir, f"docs-server-{comfyui.port}", _server_of(comfyui, owner))
        # The first answer after a start has more in it than the others.
        asked = urllib.request.Request(f"{facts['url']}/runsync", _SMALL_JOB, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60):
            return int(facts["port"])

    return Shared(comfyui, lambda: request.getfixturevalue("object_store"), server_port)


def _server_of(comfyui: RealComfyUI, owner_pid: int) -> Callable[[Path], tuple[Plan, Facts]]:
    def prepare(folder: Path) -> tuple[Plan, Facts]:
        folder.mkdir()
        port = free_port()
        plan = Plan(
            owner_pid=owner_pid,
            command=[sys.executable, "-m", "comfyworker", "serve", "--port", str(port)],
            cwd=str(folder),
            url=f"http://127.0.0.1:{port}",
            base_dir=str(folder),
            log_path=str(folder.with_suffix(".log")),
            environ={**environment(comfyui, STATE_DIR=str(folder / "state")), "ALLOW_PRIVATE_URLS": "true"},
            name="the server of the docs",
            probe="/ready",
        )
        return plan, {"port": port, "url": plan.url}

    return prepare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many blocks the pages have, and which of them nothing runs, and why."""
    ran = [report for reports in terminalreporter.stats.values() for report in reports if hasattr(report, "nodeid")]
    if any(report.nodeid.startswith("tests/docs/test_pages.py") for report in ran):
        terminalreporter.section("code blocks of the docs")
        for line in summary(block for page in doc_pages() for block in doc_blocks(page)):
            terminalreporter.write_line(line)
