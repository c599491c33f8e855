"""`comfyworker serve` as whoever runs it sees it: started, curled, guarded, drained."""

import asyncio
import base64
import io
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfyworker.jobs import Graph
from support import workflows
from support.command import call, environment, start
from support.eventually import eventually
from support.ports import free_port
from support.real_comfyui import RealComfyUI
from support.serving import ready, serving, session

ALICE, BOB = "alice-key-123", "bob-key-456789"
SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)


async def sh(command: str, **variables: str) -> str:
    """Run a line as a person would paste it into a shell; return what it prints."""
    process = await asyncio.create_subprocess_shell(
        command, env=environment() | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def job(graph: Graph | None = None, **beside: object) -> dict[str, Any]:
    """Return a request as RunPod's clients send it."""
    return {"input": {"workflow": graph or workflows.colour((1, 2, 3)), **beside}}


async def get(client: aiohttp.ClientSession, path: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON that a path answers with; its status must be as expected."""
    async with client.get(path) as response:
        assert response.status == status, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def post(client: aiohttp.ClientSession, path: str, body: object, status: int = 200) -> dict[str, Any]:
    """Return the JSON that a path answers with to a body; its status must be as expected."""
    async with client.post(path, json=body) as response:
        assert response.status == status, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def metrics(client: aiohttp.ClientSession) -> dict[tuple[str, str], float]:
    """Return every sample of GET /metrics, by name and labels."""
    async with client.get("/metrics") as response:
        assert response.status == 200
        return {
            (found["name"], found["labels"] or ""): float(found["value"])
            for found in SAMPLE.finditer(await response.text())
        }


async def test_every_line_that_it_prints_works(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The lines to curl work as they are printed, and each runs a job or tells of ComfyUI."""
    async with serving(comfyui.url, tmp_path / "state") as server:
        await ready(server)
        lines = [line for line in server.stdout_lines if line.startswith("curl ")]
        answers = {line.split()[1].removeprefix(server.url): json.loads(await sh(line)) for line in lines}
    assert set(answers) == {"/ready", "/runsync", "/generate/sync", "/api/v2/jobs"}
    assert answers["/ready"]["ready"] is True
    assert answers["/runsync"]["output"]["images"][0]["data"]
    assert (answers["/generate/sync"]["status"], len(answers["/generate/sync"]["output"])) == ("completed", 1)
    assert answers["/api/v2/jobs"]["status"] in {"queued", "running", "succeeded"}


async def test_the_lines_with_keys_want_the_key(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """With API keys, the lines name `$KEY`; with it they work, and without it nobody gets in."""
    async with serving(comfyui.url, tmp_path / "state", environ={"API_KEYS": ALICE}) as server:
        line = next(line for line in server.stdout_lines if "/runsync" in line)
        assert json.loads(await sh(line, KEY=ALICE))["status"] == "COMPLETED"
        assert json.loads(await sh(line, KEY="wrong-key"))["error_code"] == "unauthorized"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_a_signal_lets_running_jobs_end(comfyui: RealComfyUI, tmp_path: Path, number: signal.Signals) -> None:
    """After a signal new jobs are refused, /ready says why, the running job ends, and the server with it."""
    gate, state = tmp_path / "gate", tmp_path / "state"
    async with serving(comfyui.url, state) as server, session(server) as client:
        running = await post(client, "/run", job(workflows.wait(until_file=gate)))
        await eventually(lambda: _is(client, running["id"], "IN_PROGRESS"))
        server.process.send_signal(number)
        await eventually(lambda: _refuses(client))
        assert (await get(client, "/ready", 503))["reason"] == "the server is shutting down"
        assert (await get(client, "/health"))["status"] == "ok"
        gate.touch()
        assert await asyncio.wait_for(server.process.wait(), 30) == 0
    async with serving(comfyui.url, state) as server, session(server) as client:
        assert (await get(client, f"/status/{running['id']}"))["status"] == "COMPLETED"


async def _is(client: aiohttp.ClientSession, job_id: object, status: str) -> bool:
    return bool((await get(client, f"/status/{job_id}"))["status"] == status)


async def _all_are(client: aiohttp.ClientSession, ids: list[str], status: str) -> bool:
    return all([await _is(client, job_id, status) for job_id in ids])


async def _refuses(client: aiohttp.ClientSession) -> bool:
    async with client.post("/run", json=job()) as response:
        return response.status in {429, 503} and "Retry-After" in response.headers


async def test_what_does_not_end_in_time_runs_at_the_next_start(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A job that outlasts DRAIN_TIMEOUT_S is taken back and runs at the next start, with those that waited."""
    gate, state = tmp_path / "gate", tmp_path / "state"
    async with serving(comfyui.url, state, environ={"DRAIN_TIMEOUT_S": "0"}) as server, session(server) as client:
        graphs = [workflows.wait(until_file=gate) for _ in range(5)]
        ids = [str((await post(client, "/run", job(graph)))["id"]) for graph in graphs]
        assert await server.stop() == 0
    gate.touch()
    async with serving(comfyui.url, state) as server, session(server) as client:
        await eventually(lambda: _all_are(client, ids, "COMPLETED"), within_s=30)


async def test_a_second_signal_does_not_wait(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice means it: the running job is taken back at once."""
    async with serving(comfyui.url, tmp_path / "state", environ={"DRAIN_TIMEOUT_S": "3000"}) as server:
        async with session(server) as client:
            running = await post(client, "/run", job(workflows.wait(until_file=tmp_path / "never")))
            await eventually(lambda: _is(client, running["id"], "IN_PROGRESS"))
            server.process.send_signal(signal.SIGINT)
            await eventually(lambda: "http.draining" in [event["event"] for event in server.log()])
        assert await server.stop(signal.SIGINT) == 0


async def test_it_says_why_it_is_not_ready(tmp_path: Path) -> None:
    """Without ComfyUI the server lives, takes jobs, and says at /ready what is missing."""
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = {"COMFY_API_AVAILABLE_TIMEOUT_S": "0.2"}
    async with serving(nobody, tmp_path / "state", environ=environ) as server, session(server) as client:
        health = await get(client, "/health")
        assert health["status"] == "ok"
        await eventually(lambda: _tells_why(client))
        answer = await get(client, "/ready", 503)
        assert (answer["ready"], answer["comfyui"][0]["error"]["code"]) == (False, "comfyui_unreachable")
        assert "did not answer" in answer["reason"]


async def _tells_why(client: aiohttp.ClientSession) -> bool:
    return "error" in (await get(client, "/ready", 503))["comfyui"][0]


async def test_each_key_sees_its_own_jobs(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A wrong key gets nothing, another's job is not there, and a key that replaces one sees its jobs."""
    keys = f"alice:{ALICE},bob:{BOB},alice:new-alice-key"
    async with serving(comfyui.url, tmp_path / "state", environ={"API_KEYS": keys}) as server:
        async with session(server, key=ALICE) as client:
            made = await post(client, "/runsync", job(output={"delivery": "url"}))
        for key, status in ((ALICE, 200), ("new-alice-key", 200), (BOB, 404), ("nobodys-key", 401), (None, 401)):
            async with session(server, key=key) as client, client.get(f"/status/{made['id']}") as response:
                assert response.status == status
        async with session(server) as client:
            for path in ("/run", "/runsync", "/generate", "/generate/sync", "/v2/any/run"):
                await post(client, path, job(), 401)
            async with client.get("/metrics") as response:
                assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
            await get(client, "/health")
            await get(client, "/ready")
        assert not any(key in server.log_text() for key in (ALICE, BOB, "nobodys-key"))


async def test_a_large_answer_comes_whole(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Megabytes of base64 are sent in pieces, and are one document with the whole picture at the end."""
    async with serving(comfyui.url, tmp_path / "state") as server, session(server) as client:
        made = await post(client, "/runsync", job(workflows.noise(1024, 1024)))
    content = base64.b64decode(made["output"]["images"][0]["data"], validate=True)
    assert len(content) > 3_000_000
    assert Image.open(io.BytesIO(content)).size == (1024, 1024)


async def test_an_artifacts_url_is_its_own_permission(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A signed URL needs no key, gives the file and parts of it, and any change to it is refused."""
    environ = {"API_KEYS": ALICE}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server, key=ALICE) as alice:
        made = await post(alice, "/runsync", job(output={"delivery": "url"}, response_format="urls"))
        output = made["output"]
        url = output["images"][0]["url"]
        token = url.split("/")[-2]
        async with aiohttp.ClientSession() as anybody:
            async with anybody.get(url) as response:
                whole = await response.read()
                assert (response.status, response.headers["Content-Type"]) == (200, "image/png")
                assert response.headers["X-Content-Type-Options"] == "nosniff"
            async with anybody.get(url, headers={"Range": "bytes=1-3"}) as response:
                assert (response.status, await response.read()) == (206, whole[1:4])
            forged = url.replace(token, token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
            for wrong in (forged, url.replace(token, "x"), url.replace(token, "..%2F..%2Fjobs.sqlite3")):
                async with anybody.get(wrong) as response:
                    assert response.status in {403, 404}, wrong
        assert token not in server.log_text()


async def test_an_artifacts_url_expires(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """After ARTIFACT_URL_EXPIRES_S the URL is refused, and the job's answer has a new one."""
    environ = {"ARTIFACT_URL_EXPIRES_S": "1"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server) as client:
        made = await post(client, "/runsync", job(output={"delivery": "url"}, response_format="urls"))
        output = made["output"]

        async def is_refused() -> bool:
            async with client.get(output["images"][0]["url"]) as response:
                return response.status == 403 and "expired" in await response.text()

        await eventually(is_refused)
        again = (await get(client, f"/status/{made['id']}"))["output"]
        async with client.get(again["images"][0]["url"]) as response:
            assert response.status == 200


async def test_a_body_is_read_no_further_than_its_limit(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A body that says it is too large is refused unread; one that does not say is cut off on the way."""
    environ = {"REQUEST_MAX_BYTES": "100000"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server:
        for head in (b"Content-Length: 100001\r\n", b"Transfer-Encoding: chunked\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writer.write(b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n")
            if b"chunked" in head:
                for _ in range(11):
                    writer.write(b"2710\r\n" + b" " * 10_000 + b"\r\n")
            await writer.drain()
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 413 "), head
            writer.close()
        async with session(server) as client:
            assert (await post(client, "/runsync", job()))["status"] == "COMPLETED"


async def test_web_pages_of_others_are_refused(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Neither a page of another origin nor a name that points here reaches a server without keys."""
    async with serving(comfyui.url, tmp_path / "state") as server, session(server) as client:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            async with client.post("/run", json=job(), headers=headers) as response:
                assert response.status == 403, headers
                assert "Access-Control-Allow-Origin" not in response.headers
        async with client.post("/run", json=job(), headers={"Origin": server.url}) as response:
            assert response.status == 200


async def test_pages_that_are_listed_may_call(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """CORS_ORIGINS lets the scripts of the listed pages call the server, and no others."""
    environ = {"CORS_ORIGINS": "https://page.example"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server) as client:
        for origin, is_let in (("https://page.example", True), ("https://evil.example", False)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with client.options("/run", headers=headers) as response:
                assert ("Access-Control-Allow-Origin" in response.headers) is is_let
            async with client.post("/run", json=job(), headers={"Origin": origin}) as response:
                assert (response.status, "Access-Control-Allow-Origin" in response.headers) == (
                    200 if is_let else 403,
                    is_let,
                )


async def test_metrics_count_what_happened(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Jobs by API, status and error code; stages, bytes, requests by route, ComfyUI and disks."""
    async with serving(comfyui.url, tmp_path / "state") as server, session(server) as client:
        await post(client, "/runsync", job())
        await post(client, "/runsync", job(workflows.failing()))
        await post(client, "/generate/sync", job())
        seen = await metrics(client)
    ended = {labels: value for (name, labels), value in seen.items() if name == "comfyworker_jobs_ended_total"}
    assert ended == {
        'api="runpod",code="",status="succeeded"': 1,
        'api="runpod",code="node_execution_error",status="failed"': 1,
        'api="vast",code="",status="succeeded"': 1,
    }
    assert seen["comfyworker_job_stage_seconds_count", 'stage="execute"'] == 2
    assert seen["comfyworker_job_queue_seconds_count", ""] == 3
    assert seen["comfyworker_delivered_bytes_total", 'to="host"'] > 0
    assert seen["comfyworker_http_request_seconds_count", 'method="POST",route="/runsync",status="200"'] == 2
    assert seen["comfyworker_comfyui_ready", 'instance="comfyui-0"'] == 1
    assert seen["comfyworker_comfyui_restarts", 'instance="comfyui-0"'] == 0
    assert seen["comfyworker_jobs", 'status="queued"'] == 0
    assert seen["comfyworker_disk_bytes", 'kind="free",place="state"'] > 0


async def test_requests_are_logged_by_their_route(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The log has method, route, status and the job's id; no query string, no body."""
    async with serving(comfyui.url, tmp_path / "state") as server, session(server) as client:
        made = await post(client, "/runsync?wait=60000&secret=hunter22", job(prompt="a hidden prompt"))
        await get(client, f"/status/{made['id']}?token=hunter22")
        await get(client, "/nowhere?token=hunter22", 404)
    answered = [event for event in server.log() if event["event"] == "http.answered"]
    assert [(event["method"], event["route"], event["status"]) for event in answered] == [
        ("POST", "/runsync", 200),
        ("GET", "/status/{job_id}", 200),
        ("GET", "unknown", 404),
    ]
    assert answered[1]["job_id"] == made["id"]
    assert "hunter22" not in server.log_text()
    assert "hidden" not in server.log_text()


async def test_the_openapi_document_has_the_modifiers(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Bodies are typed, and each modifier has a schema of its own with its parameters' bounds."""
    async with serving(comfyui.url, tmp_path / "state") as server, session(server) as client:
        document = await get(client, "/openapi.json")
        async with client.get("/docs") as response:
            assert response.status == 200
    schemas = document["components"]["schemas"]
    text2image = schemas["Modifier_Text2Image"]["properties"]["modifications"]["properties"]
    assert text2image["prompt"]["type"] == "string"
    assert text2image["steps"]["anyOf"][0]["minimum"] == 1
    body = document["paths"]["/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"$ref": "#/components/schemas/Modifier_Text2Image"} in body["properties"]["input"]["anyOf"]


def test_it_serves_no_network_by_accident(tmp_path: Path) -> None:
    """An address that others reach needs API keys, or the word that none are wanted."""
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        done = call("serve", "--host", host, environ=environment(), cwd=tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "there are no API_KEYS" in done.err
        assert "SERVE_WITHOUT_KEYS=true" in done.err


@pytest.mark.parametrize("environ", [{"API_KEYS": ALICE}, {"SERVE_WITHOUT_KEYS": "true"}], ids=["keys", "told so"])
async def test_it_serves_the_network_when_it_is_meant(
    comfyui: RealComfyUI, tmp_path: Path, environ: dict[str, str]
) -> None:
    """With keys, or where something in front checks who asks, all addresses can be served."""
    async with serving(comfyui.url, tmp_path / "state", environ=environ, args=("--host", "0.0.0.0")) as server:
        async with aiohttp.ClientSession() as client, client.get(f"{server.url}/health") as response:
            assert response.status == 200
        async with aiohttp.ClientSession() as client:
            headers = {"Host": "worker.example"}
            async with client.get(f"{server.url}/health", headers=headers) as response:
                assert response.status == 200


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    """Before ComfyUI is looked for, the command says that it cannot listen, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = call("serve", "--port", port, environ=environment(), cwd=tmp_path)
    assert done.code == 1
    assert f"cannot listen on 127.0.0.1, port {port}: address already in use" in done.err
    assert "port 0 takes a free one" in done.err


def test_bad_settings_are_said_together(tmp_path: Path) -> None:
    """All that is wrong is said at once, and no key is repeated."""
    environ = environment(SERVE_PORT="http", API_KEYS="short", PUBLIC_URL="worker.example", DRAIN_TIMEOUT="-1")
    done = call("serve", environ=environ, cwd=tmp_path)
    assert done.code == 1
    for name in ("SERVE_PORT", "API_KEYS", "PUBLIC_URL", "DRAIN_TIMEOUT_S"):
        assert name in done.err
    assert "short" not in done.err


async def test_one_server_for_one_state_folder(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A second server on the same STATE_DIR ends with a clear word, and the first one goes on."""
    async with serving(comfyui.url, tmp_path / "state") as server:
        environ = environment(comfyui) | {"STATE_DIR": str(tmp_path / "state")}
        second = await start("serve", "--port", "0", environ=environ, cwd=tmp_path)
        out, err = await second.communicate()
        assert (second.returncode, out) == (1, b"")
        assert b"STATE_DIR" in err
        async with session(server) as client:
            await get(client, "/health")


def test_no_comfyui(tmp_path: Path) -> None:
    """Where no ComfyUI is to be found, the command says so and ends."""
    environ = environment() | {"STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    done = call("serve", "--port", "0", environ=environ, cwd=tmp_path)
    assert done.code == 1
    assert "comfyui_not_found" in done.err
