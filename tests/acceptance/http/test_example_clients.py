"""The programs of examples/clients against `comfyworker serve`, as their user starts them."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from support import workflows
from support.clients import client_program
from support.command import Done
from support.eventually import eventually
from support.ports import free_port
from support.real_comfyui import RealComfyUI
from support.serving import Serving, get, serving, session
from support.source import REPOSITORY

CLIENTS = REPOSITORY / "examples/clients"
KEY = "key-of-the-tests"


@pytest.fixture(scope="module")
def api_key() -> str:
    """Return the key that the server wants."""
    return KEY


def command(name: str) -> list[str]:
    """Return how a client is started: by this Python where it needs nothing but that, else by one with the library."""
    if name.endswith(".sh"):
        return ["bash", str(CLIENTS / name)]
    return [str(client_program("python")) if name == "with_runpod.py" else sys.executable, str(CLIENTS / name)]


@contextlib.asynccontextmanager
async def running(
    name: str, *args: str, url: str, cwd: Path, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a client in `cwd` for the server at `url`."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    environ = {
        **kept,
        "HOME": str(cwd),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2",
        "RUNPOD_ENDPOINT_ID": "local",
        "RUNPOD_API_KEY": KEY,
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        *command(name), *args, cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> Done:
    """Return what a client leaves."""
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def call(name: str, *args: str, url: str, cwd: Path, **variables: str) -> Done:
    """Run a client to its end."""
    async with running(name, *args, url=url, cwd=cwd, **variables) as process:
        return await ended(process)


def write_request(folder: Path, workflow: object) -> str:
    """Write a request and return the file's name."""
    (folder / "request.json").write_text(json.dumps({"input": {"workflow": workflow}}), encoding="utf-8")
    return "request.json"


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def colour(path: Path) -> object:
    """Return the first pixel of a picture."""
    return Image.open(path).convert("RGB").getpixel((0, 0))


@pytest.mark.parametrize("name", ["run.py", "runsync.py", "run.sh", "with_runpod.py"])
async def test_a_client_saves_the_pictures(server: Serving, tmp_path: Path, name: str) -> None:
    """Every picture of the job lies in out/, and its name is on stdout."""
    request = write_request(tmp_path, workflows.colour((12, 34, 56), batch_size=2))
    done = await call(name, request, url=server.url, cwd=tmp_path)
    assert done.code == 0, done.err
    saved = [tmp_path / line for line in done.out.splitlines()]
    assert [colour(path) for path in saved] == [(12, 34, 56)] * 2
    assert {path.parent for path in saved} == {tmp_path / "out"}


async def test_runsync_with_curl_saves_one_picture(server: Serving, tmp_path: Path) -> None:
    """The first picture goes into the file that is named."""
    request = write_request(tmp_path, workflows.colour((7, 8, 9)))
    done = await call("runsync.sh", request, "picture.png", url=server.url, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert colour(tmp_path / "picture.png") == (7, 8, 9)


async def test_runsync_goes_on_asking(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A job that takes longer than /runsync waits is asked for until it has ended."""
    request = write_request(tmp_path, workflows.wait(steps=4, seconds_per_step=0.2))
    async with serving(comfyui.url, tmp_path / "state", environ={"RUNSYNC_WAIT_S": "0.1"}) as server:
        done = await call("runsync.py", request, "--output", "here", url=server.url, cwd=tmp_path)
        assert done.code == 0, done.err
        assert len(list((tmp_path / "here").iterdir())) == 1


async def test_pictures_by_url_are_fetched(server: Serving, tmp_path: Path) -> None:
    """Where the answer has URLs instead of base64, the files are the same."""
    body = {"input": {"workflow": workflows.colour((1, 2, 3)), "output": {"delivery": "url"}}}
    (tmp_path / "request.json").write_text(json.dumps(body), encoding="utf-8")
    for name in ("run.py", "run.sh"):
        done = await call(name, "request.json", url=server.url, cwd=tmp_path)
        assert done.code == 0, done.err
        assert colour(tmp_path / done.out.splitlines()[0]) == (1, 2, 3)


@pytest.mark.parametrize("name", ["run.py", "runsync.py", "run.sh", "runsync.sh", "with_runpod.py"])
async def test_a_failed_job_says_why(server: Serving, tmp_path: Path, name: str) -> None:
    """The worker's own words come out on stderr, the exit code is 1, and no file is left."""
    request = write_request(tmp_path, workflows.failing("ValueError", "no such luck"))
    more = ("picture.png",) if name == "runsync.sh" else ()
    done = await call(name, request, *more, url=server.url, cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: ")
    assert "no such luck" in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in files_below(tmp_path) if path.suffix == ".png") == []


@pytest.mark.parametrize("name", ["run.py", "runsync.py", "cancel.py", "run.sh", "runsync.sh"])
async def test_a_wrong_key_is_told(server: Serving, tmp_path: Path, name: str) -> None:
    """What the server says against the key is what the user reads; the key itself is nowhere."""
    args = ("some-id",) if name == "cancel.py" else (write_request(tmp_path, {}), "picture.png")
    args = args if name == "runsync.sh" else args[:1]
    done = await call(name, *args, url=server.url, cwd=tmp_path, RUNPOD_API_KEY="wrong-key-1234")
    assert done.code == 1
    assert "error: " in done.err
    assert "key" in done.err
    assert "wrong-key-1234" not in done.out + done.err


async def test_what_is_missing_in_the_environment_is_named(tmp_path: Path) -> None:
    """Without key and endpoint nothing is sent."""
    request = write_request(tmp_path, {})
    done = await call("run.py", request, url="http://127.0.0.1:1", cwd=tmp_path, RUNPOD_API_KEY="")
    assert (done.code, done.err) == (1, "error: set RUNPOD_API_KEY\n")


async def test_no_server_is_no_traceback(tmp_path: Path) -> None:
    """Where nobody listens, that is what is said."""
    done = await call("run.py", write_request(tmp_path, {}), url=f"http://127.0.0.1:{free_port()}", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("error: no answer: ")


async def statuses(server: Serving) -> dict[str, int]:
    """Return how many jobs there are in each state, as RunPod's /health tells."""
    async with session(server, key=KEY) as client:
        return dict((await get(client, "/v2/local/health"))[1]["jobs"])


@pytest.mark.parametrize("name", ["run.py", "run.sh"])
async def test_ctrl_c_and_a_timeout_cancel_the_job(server: Serving, tmp_path: Path, name: str) -> None:
    """A client that gives up leaves no job running."""
    request = write_request(tmp_path, workflows.wait(steps=10_000, seconds_per_step=0.05))
    limit = ("--timeout", "1") if name == "run.py" else ()
    done = await call(name, request, *limit, url=server.url, cwd=tmp_path, TIMEOUT_S="1")
    assert done.code == 1
    assert "CANCELLED" in done.err
    assert "is still" in done.err or "was still" in done.err

    async def is_idle() -> bool:
        return (await statuses(server))["inProgress"] == 0

    await eventually(is_idle)
    async with running(name, request, url=server.url, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert b"was taken" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert done.code == 130
    assert "CANCELLED" in done.err
    await eventually(is_idle)


@pytest.mark.parametrize("name", ["cancel.py", "cancel.sh"])
async def test_cancel_ends_a_job(server: Serving, tmp_path: Path, name: str) -> None:
    """A running job is canceled by its id, and a second time that does no harm."""
    body = {"input": {"workflow": workflows.wait(steps=10_000, seconds_per_step=0.05)}}
    async with session(server, key=KEY) as client:
        async with client.post("/v2/local/run", json=body) as answer:
            job_id = (await answer.json())["id"]
        for _ in range(2):
            done = await call(name, job_id, url=server.url, cwd=tmp_path)
            assert (done.code, done.out.split()[-1]) == (0, "CANCELLED"), done.err
        assert (await get(client, f"/v2/local/status/{job_id}"))[1]["status"] == "CANCELLED"
