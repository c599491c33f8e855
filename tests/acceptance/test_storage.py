"""Answers whose files lie in a real object store, as each client asks for them through the command."""

import asyncio
import io
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from comfyworker.jobs import Graph
from support import workflows
from support.command import Done, call, environment
from support.object_store import ObjectStore
from support.object_store_client import fetch
from support.ports import free_port
from support.real_comfyui import RealComfyUI

RED = (200, 0, 0)


def brought(store: ObjectStore, bucket: str) -> dict[str, str]:
    """Return the `s3` of a request that brings its own bucket."""
    return {
        "endpoint_url": store.endpoint_url,
        "bucket_name": bucket,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
        "region": store.region,
    }


def red(**more: Any) -> dict[str, Any]:
    """Return a request for a red picture."""
    graph: Graph = workflows.colour(RED)
    return {"input": {"workflow": graph, **more}}


async def handle(comfyui: RealComfyUI, cwd: Path, body: object, *args: str, **variables: str) -> Done:
    """Hand one request to the command, while the store of this process goes on serving."""
    environ = environment(comfyui, **variables)
    return await asyncio.to_thread(call, "handle", *args, environ=environ, cwd=cwd, stdin=orjson.dumps(body))


def url_in(dialect: str, answer: Any) -> str:
    """Return the URL of an answer's only file, after a look at what stands beside it."""
    if dialect == "pyworker":
        [entry] = answer["output"]
        assert "data" not in entry
        return str(entry["url"])
    [entry] = answer["images"]
    assert entry["type"] == "s3_url"
    return str(entry["url" if dialect == "urls" else "data"])


async def colour_at(url: str) -> tuple[int, ...]:
    """Return the colour of the picture at a URL."""
    answer = await fetch(url)
    assert (answer.status, answer.content_type) == (200, "image/png")
    pixel = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return tuple(int(part) for part in pixel)


@pytest.mark.parametrize("dialect", ["worker-comfyui", "urls", "pyworker"])
async def test_answers_carry_urls_that_work(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path, dialect: str
) -> None:
    """In each dialect's own shape; the log tells nothing of keys and signatures."""
    bucket = await object_store.make_bucket()
    variables = object_store.variables(bucket)
    done = await handle(comfyui, tmp_path, red(request_id="order-7"), "--dialect", dialect, **variables)
    assert done.code == 0, done.err
    assert await colour_at(url_in(dialect, done.json())) == RED
    [key] = await object_store.keys_in(bucket)
    assert key.startswith("order-7/")
    assert object_store.secret_access_key not in done.out + done.err
    assert "Signature" not in done.err


@pytest.mark.parametrize("where", ["s3", "s3Config"])
async def test_a_request_brings_its_own_bucket(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path, where: str
) -> None:
    """It goes before the worker's, in Vast's words and in RunPod's."""
    workers, own = await object_store.make_bucket(), await object_store.make_bucket()
    s3 = brought(object_store, own)
    body = red(s3=s3)
    if where == "s3Config":
        names = {"endpointUrl": "endpoint_url", "bucketName": "bucket_name", "accessId": "access_key_id"}
        config = {theirs: s3[ours] for theirs, ours in names.items()}
        body = {**red(), "s3Config": {**config, "accessSecret": s3["secret_access_key"]}}
    variables = {**object_store.variables(workers), "ALLOW_PRIVATE_URLS": "true"}
    if where == "s3Config":
        # RunPod's shape has no region, and the tests' store insists on its own.
        variables["BUCKET_REGION"] = object_store.region
    done = await handle(comfyui, tmp_path, body, **variables)
    assert done.code == 0, done.out + done.err
    assert await colour_at(url_in("worker-comfyui", done.json())) == RED
    assert await object_store.keys_in(workers) == []
    assert len(await object_store.keys_in(own)) == 1
    assert object_store.secret_access_key not in done.out + done.err


async def test_flux_clients_get_base64_beside_a_bucket_and_urls_when_they_ask(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path
) -> None:
    """They read nothing else, if they do not say so."""
    variables = object_store.variables(await object_store.make_bucket())
    usual = (await handle(comfyui, tmp_path, red(), "--dialect", "flux", **variables)).json()
    assert usual["images"][0].startswith("iVBOR")
    body = red(output={"delivery": "s3"})
    asked = (await handle(comfyui, tmp_path, body, "--dialect", "flux", **variables)).json()
    assert await colour_at(asked["images"][0]) == RED


async def test_with_the_store_down_the_answer_says_what_to_look_at(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """And the picture is kept."""
    variables = {
        "BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}/outputs",
        "BUCKET_ACCESS_KEY_ID": "key",
        "BUCKET_SECRET_ACCESS_KEY": "s3cr3t",
        "BUCKET_ATTEMPTS": "1",
        "STATE_DIR": str(tmp_path / "state"),
    }
    done = await handle(comfyui, tmp_path, red(request_id="order-8"), **variables)
    answer = done.json()
    assert (done.code, answer["error_code"]) == (1, "delivery_failed")
    assert "nothing listens there" in answer["error"]
    assert "BUCKET_ENDPOINT_URL" in answer["error"]
    assert "undelivered" in answer["error"]
    assert len(list((tmp_path / "state/undelivered/order-8").iterdir())) == 1
    assert "s3cr3t" not in done.out + done.err


async def test_pyworker_names_the_file_that_did_not_arrive(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """In upstream's word for it; of a request's own endpoint no more is told than that there is no connection."""
    s3 = {
        "endpoint_url": f"http://127.0.0.1:{free_port()}",
        "bucket_name": "outputs",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "connect_attempts": 1,
    }
    body = red(s3=s3)
    done = await handle(comfyui, tmp_path, body, "--dialect", "pyworker", ALLOW_PRIVATE_URLS="true")
    answer = done.json()
    [entry] = answer["output"]
    assert (answer["status"], done.code) == ("failed", 1)
    assert "no connection could be made" in entry["upload_error"]
    assert "input.s3.endpoint_url" in answer["message"]


async def test_a_request_may_not_send_files_into_private_networks(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Unless the worker says that its callers may."""
    s3 = {"endpoint_url": "http://127.0.0.1:9", "bucket_name": "b", "access_key_id": "k", "secret_access_key": "s"}
    answer = (await handle(comfyui, tmp_path, red(s3=s3))).json()
    assert answer["error_code"] == "invalid_request"
    assert "s3.endpoint_url leads to a loopback address" in answer["error"]


async def test_formats_are_honoured(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A request says so, whatever its dialect."""
    answer = (await handle(comfyui, tmp_path, red(output={"format": "jpg", "quality": 80}))).json()
    [entry] = answer["images"]
    assert entry["filename"].endswith(".jpg")
    assert entry["data"].startswith("/9j/")


async def test_storage_check_tries_it(comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path) -> None:
    """Each step, for a person and for a program; nothing stays in the bucket."""
    bucket = await object_store.make_bucket()
    environ = environment(comfyui, **object_store.variables(bucket))
    done = await asyncio.to_thread(call, "storage", "check", environ=environ, cwd=tmp_path)
    assert (done.code, done.out.count("✓"), done.out.count("✗")) == (0, 4, 0), done.out + done.err
    told = await asyncio.to_thread(call, "storage", "check", "--json", environ=environ, cwd=tmp_path)
    assert [step["name"] for step in told.json()["steps"]] == ["connect", "write", "read", "delete"]
    assert await object_store.keys_in(bucket) == []


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        ({"BUCKET_SECRET_ACCESS_KEY": "wrong"}, 1, "BUCKET_SECRET_ACCESS_KEY"),
        ({"BUCKET_NAME": "not-there"}, 1, "not-there"),
        ({"BUCKET_ENDPOINT_URL": "ftp://example.com"}, 1, "ftp"),
        ({"BUCKET_ACCESS_KEY_ID": ""}, 1, "BUCKET_ACCESS_KEY_ID"),
        ({"BUCKET_ENDPOINT_URL": "", "BUCKET_NAME": ""}, 2, "BUCKET_ENDPOINT_URL"),
    ],
)
async def test_storage_check_says_what_is_wrong(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path, wrong: dict[str, str], code: int, told: str
) -> None:
    """With the variable to look at."""
    bucket = await object_store.make_bucket()
    environ = environment(comfyui, **{**object_store.variables(bucket), **wrong})
    done = await asyncio.to_thread(call, "storage", "check", environ=environ, cwd=tmp_path)
    assert done.code == code, done.out + done.err
    assert told in done.out + done.err
    assert object_store.secret_access_key not in done.out + done.err


async def test_doctor_says_where_outputs_go(comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path) -> None:
    """And what is wrong with the settings of it."""
    good = environment(comfyui, **object_store.variables("outputs"))
    found = (await asyncio.to_thread(call, "doctor", "--json", environ=good, cwd=tmp_path)).json()["findings"]
    assert [item["level"] for item in found if item["area"] == "storage"] == ["ok"]
    bad = environment(comfyui, BUCKET_ENDPOINT_URL="ftp://example.com")
    found = (await asyncio.to_thread(call, "doctor", "--json", environ=bad, cwd=tmp_path)).json()["findings"]
    assert [item["level"] for item in found if item["area"] == "storage"] == ["problem"]


async def test_a_command_that_spoke_to_a_store_ends_at_once(
    comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path
) -> None:
    """Without the interpreter's clean-up, in which obstore's threads abort the process now and then."""
    bucket = await object_store.make_bucket()
    code = (
        "import atexit, sys; atexit.register(print, 'cleaned up'); from comfyworker.cli import main; "
        "sys.argv = ['comfyworker', *sys.argv[1:]]; main()"
    )

    async def ended(*args: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", code, *args),
            env=environment(comfyui, **object_store.variables(bucket)),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode().splitlines()[-1]

    code_of_check, last_line = await ended("storage", "check")
    assert code_of_check == 0
    assert "it can be removed again" in last_line
    assert await ended("settings", "--help") == (0, "cleaned up")
