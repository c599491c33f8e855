"""The program of examples/clients for Vast.ai, with Vast's own library, against a worker that checks signatures."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from support import workflows
from support.certificates import Certificate
from support.command import Done
from support.serving import Serving
from support.source import REPOSITORY
from support.vast_platform import API_KEY, ENDPOINT, VastPlatform
from support.vast_sdk import sdk_python

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENT = REPOSITORY / "examples/clients/with_vast.py"
# The library knows one place for the certificate that it trusts.
START = (
    "import runpy, sys; from vastai import Serverless; Serverless.SSL_CERT_URL = sys.argv.pop(1); "
    "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)


async def call(platform: VastPlatform, cwd: Path, workflow: object) -> Done:
    """Write a workflow into `cwd` and run the client there."""
    (cwd / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    urls = {"VAST_SERVERLESS_URL": platform.url, "VAST_URL": platform.url}
    process = await asyncio.create_subprocess_exec(
        str(sdk_python()),
        "-c",
        START,
        f"{platform.url}/static/jvastai_root.cer",
        str(CLIENT),
        "workflow.json",
        cwd=cwd,
        env={**kept, **urls, "VAST_API_KEY": API_KEY, "VAST_ENDPOINT": ENDPOINT, "HOME": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture(autouse=True)
def _trusted(worker: Serving, platform: VastPlatform, certificate: Certificate) -> None:
    """Have a worker that is ready, whose certificate the platform gives to clients."""
    assert worker.process.returncode is None
    platform.root_certificate = certificate.file


async def test_it_saves_the_picture(platform: VastPlatform, tmp_path: Path) -> None:
    """The job goes to the worker that the platform names, and its picture is saved."""
    done = await call(platform, tmp_path, workflows.colour((21, 43, 65)))
    assert done.code == 0, done.err
    [line] = done.out.splitlines()
    assert Image.open(tmp_path / line).convert("RGB").getpixel((0, 0)) == (21, 43, 65)


async def test_a_failed_job_says_why(platform: VastPlatform, tmp_path: Path) -> None:
    """What would only fail again is not sent again, and the worker's words come out."""
    done = await call(platform, tmp_path, workflows.failing("ValueError", "no such luck"))
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: HTTP 422")
    assert "no such luck" in done.err
