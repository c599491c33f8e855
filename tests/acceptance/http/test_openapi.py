"""The OpenAPI document and the server agree, as schemathesis sees it: whatever it sends, the answer is documented."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support import workflows
from support.clients import client_program
from support.real_comfyui import RealComfyUI
from support.serving import Serving, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
)
FLAGS = ("--continue-on-failure", "--no-shrink", "--suppress-health-check=all", "--warnings=off", "--seed=1")
JOBS = r"^/(run|runsync|generate.*|api/v2/jobs)$"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    _shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Serving]:
    """Start a server whose modifiers take milliseconds: schemathesis asks for them by the dozen."""
    folder = tmp_path_factory.mktemp("server")
    quick = workflows.colour((1, 2, 3), width=8, height=8)
    parameters = {"width": {"type": "integer", "minimum": 1, "maximum": 64, "targets": ["1.width"]}}
    for name in ("Text2Image", "Image2Image"):
        modifier = {"name": name, "workflow": quick, "parameters": parameters}
        (folder / f"{name}.json").write_text(json.dumps(modifier), encoding="utf-8")
    (folder / "default").write_text(json.dumps(quick), encoding="utf-8")
    environ = {
        "MODIFIERS_DIR": str(folder),
        "DEFAULT_WORKFLOW": str(folder / "default"),
        "COMFYUI_BASE_DIR": str(_shared_comfyui.base_dir),
    }
    async with serving(_shared_comfyui.url, folder / "state", environ=environ) as server:
        yield server


async def explore(server: Serving, cwd: Path, *flags: str) -> str:
    """Have schemathesis ask the server for all that its document has; return what it reports."""
    command = (
        str(client_program("schemathesis")),
        "run",
        f"{server.url}/openapi.json",
        *FLAGS,
        f"--checks={','.join(CHECKS)}",
        *flags,
    )
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    report = out.decode()
    assert process.returncode == 0, report[-6000:]
    assert not [event for event in server.log() if event["event"] == "http.failed"]
    return report


def counted(report: str) -> tuple[int, int]:
    """Return how many operations were tested, and by how many requests."""
    operations, cases = re.search(r"Tested:\s+(\d+)", report), re.search(r"(\d+) generated", report)
    assert operations is not None, report
    assert cases is not None, report
    return int(operations[1]), int(cases[1])


async def test_good_and_bad_requests_are_answered_as_documented(
    server: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generated requests to every operation, and chains of them, get statuses, types and bodies of the document."""
    report = await explore(server, tmp_path, "--phases=examples,fuzzing,stateful", "--max-examples=20")
    operations, cases = counted(report)
    with capsys.disabled():
        print(f"\nschemathesis: {cases} requests to {operations} operations, all answered as documented")
    assert operations >= 30


async def test_every_parameter_and_method_is_answered_as_documented(server: Serving, tmp_path: Path) -> None:
    """Each parameter left out, doubled, of a wrong type or at its bounds, and each method that there is not."""
    report = await explore(server, tmp_path, "--phases=coverage", f"--exclude-path-regex={JOBS}")
    assert counted(report)[0] >= 20
