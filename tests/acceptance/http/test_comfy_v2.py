"""Comfy API v2 over plain HTTP: what stands on the wire, and what the official library does not ask for."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from blake3 import blake3
from PIL import Image

from support import workflows
from support.eventually import eventually
from support.pictures import encoded, opened
from support.real_comfyui import RealComfyUI
from support.serving import Serving, get, post, ready, serving, session

JOBS, ASSETS = "/api/v2/jobs", "/api/v2/assets"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
LIMIT_BYTES = 1_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    _shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Serving]:
    """Start a server that anybody may ask."""
    environ = {"COMFYUI_BASE_DIR": str(_shared_comfyui.base_dir), "ASSET_MAX_BYTES": str(LIMIT_BYTES)}
    async with serving(_shared_comfyui.url, tmp_path_factory.mktemp("server") / "state", environ=environ) as server:
        await ready(server)
        yield server


async def ended(client: aiohttp.ClientSession, job_id: str) -> Any:
    """Return a job when it is over."""

    async def look() -> Any:
        _, job = await get(client, f"{JOBS}/{job_id}")
        return job if job["completed_at"] else None

    return await eventually(look, within_s=60)


async def run(client: aiohttp.ClientSession, workflow: object, **more: object) -> Any:
    """Run a workflow; return the job when it is over."""
    status, job = await post(client, JOBS, {"workflow": workflow, **more})
    assert status == 201
    return await ended(client, job["id"])


def form(*parts: tuple[str, bytes | str]) -> bytes:
    """Return a form, whose boundary is `b`; the part `file` has a file's name."""
    body = b""
    for name, content in parts:
        filename = '; filename="sent.bin"' if name == "file" else ""
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()
        body += (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    return body + b"--b--\r\n"


async def upload(client: aiohttp.ClientSession, *parts: tuple[str, bytes | str]) -> tuple[int, Any]:
    """Upload a form; return the answer's code and body."""
    async with client.post(ASSETS, data=io.BytesIO(form(*parts)), headers=FORM) as answer:
        return answer.status, await answer.json()


def moment(text: str) -> datetime:
    """Return a time of an answer."""
    return datetime.fromisoformat(text)


async def test_a_job_from_its_submission_to_its_end(client: aiohttp.ClientSession) -> None:
    """Every key of the contract is there at every time; times, links and figures fit together."""
    graph = workflows.colour((1, 2, 3))
    async with client.post(JOBS, json={"workflow": graph}) as answer:
        submitted, location = await answer.json(), answer.headers["Location"]
    own = f"{JOBS}/{submitted['id']}"
    assert (answer.status, location) == (201, own)
    assert submitted["urls"] == {"self": own, "events": f"{own}/events", "cancel": f"{own}/cancel"}
    job = await ended(client, submitted["id"])
    assert set(submitted) == set(job) - {"cold_start"}  # which the first job after the server's start has
    assert (job["status"], job["error"], job["queue_position"], job["metadata"]) == ("succeeded", None, None, {})
    created, started, completed, expires = (
        moment(job[f"{name}_at"]) for name in ("created", "started", "completed", "expires")
    )
    assert created <= started <= completed < expires == completed + timedelta(days=1)
    assert moment(submitted["expires_at"]) == created + timedelta(days=1)
    assert job["metrics"]["execution_ms"] == pytest.approx((completed - started) / timedelta(milliseconds=1), abs=2)
    assert (job["progress"]["value"], job["progress"]["nodes_done"], job["progress"]["nodes_total"]) == (1.0, 2, 2)
    (output,) = job["outputs"]
    assert moment(output["url_expires_at"]) > datetime.now(UTC)
    async with client.get(output["url"]) as answer:
        content = await answer.read()
    assert (output["hash"], output["size_bytes"]) == (f"blake3:{blake3(content).hexdigest()}", len(content))
    assert await get(client, f"{own}/workflow") == (200, {"workflow": graph, "format": "api"})


async def test_events_go_on_where_they_were_left(client: aiohttp.ClientSession) -> None:
    """Each has an id; Last-Event-ID leaves out what was heard; after the end, all but the pictures is told again."""
    job = await run(client, workflows.wait(steps=2))

    async def heard(after: str | None = None) -> list[tuple[int, str, Any]]:
        headers = {} if after is None else {"Last-Event-ID": after}
        async with client.get(job["urls"]["events"], headers=headers) as answer:
            assert answer.content_type == "text/event-stream"
            blocks = (await answer.text()).strip().split("\n\n")
        events = []
        for block in filter(None, blocks):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return events

    events = await heard()
    ids = [event_id for event_id, _, _ in events]
    assert (ids, len(ids)) == (sorted(set(ids)), len(events))
    assert events[-1][1:] == ("status", {"status": "succeeded", "queue_position": None})
    assert [data["id"] for _, kind, data in events if kind == "output"] == [job["outputs"][0]["id"]]
    assert await heard(str(ids[1])) == events[2:]
    assert await heard(str(ids[-1])) == []
    assert await heard("nonsense") == events


async def test_events_are_heard_while_the_job_runs(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """They come as they happen, not at the end; nobody's reading holds the job up."""
    gate = tmp_path / "gate"
    _, job = await post(client, JOBS, {"workflow": workflows.wait(until_file=gate)})
    async with client.get(job["urls"]["events"]) as idle, client.get(job["urls"]["events"]) as answer:
        async for line in answer.content:
            if b'"current_node":"2"' in line:
                gate.touch()
            if b'"succeeded"' in line:
                break
        assert (await ended(client, job["id"]))["status"] == "succeeded"
        idle.close()


async def test_a_request_is_refused_in_the_contracts_words(client: aiohttp.ClientSession) -> None:
    """Code, message and details; all problems at once."""
    good = {"workflow": workflows.noise()}
    cases: list[tuple[int, str, Any]] = [
        (400, "invalid_request", []),
        (400, "invalid_request", {}),
        (400, "invalid_request", {"workflow": None}),
        (400, "invalid_request", {**good, "timeout": -1}),
        (400, "invalid_request", {**good, "extra_data": 3}),
        (422, "invalid_workflow", {"workflow": {"1": {}}}),
        (422, "invalid_workflow", {"workflow": {"1": {"class_type": "Nix", "inputs": {}}}}),
        (422, "missing_asset", {"workflow": {"1": workflows.node("LoadImage", image={"__type": "core/ASSET"})}}),
        (422, "metadata_invalid", {**good, "metadata": {"a": 1}}),
        (422, "metadata_invalid", {**good, "metadata": ["a"]}),
    ]
    for status, code, body in cases:
        answered, envelope = await post(client, JOBS, body)
        assert (answered, envelope["error"]["code"]) == (status, code), body
        assert set(envelope["error"]) <= {"code", "message", "details"}
        assert envelope["error"]["message"]
    async with client.post(JOBS, data=b"{not json") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_request")
    for method, path in (("GET", "/api/v2/nothing"), ("PUT", JOBS), ("GET", f"{JOBS}/x/y/z")):
        async with client.request(method, path) as answer:
            assert (answer.status in {404, 405}, (await answer.json())["error"]["code"]) == (True, "not_found")


@pytest.mark.parametrize("path", ["", "/events", "/workflow", "/cancel"], ids=["job", "events", "workflow", "cancel"])
async def test_a_job_that_is_not_there(client: aiohttp.ClientSession, path: str) -> None:
    """Every route of it says so."""
    method = "POST" if path == "/cancel" else "GET"
    async with client.request(method, f"{JOBS}/nobody{path}") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")


async def test_an_idempotency_key_is_taken_once(client: aiohttp.ClientSession) -> None:
    """Also for the same request; a request that was refused has not used its key up."""
    key, graph = {"Idempotency-Key": "a key"}, workflows.noise()
    _, before = await get(client, f"{JOBS}?limit=1")
    refused, _ = await post(client, JOBS, {"workflow": {"1": {}}}, **key)
    first, job = await post(client, JOBS, {"workflow": graph}, **key)
    again, same = await post(client, JOBS, {"workflow": graph}, **key)
    other, reused = await post(client, JOBS, {"workflow": workflows.noise()}, **key)
    assert (refused, first, again, other) == (422, 201, 422, 422)
    assert (same["error"]["code"], reused["error"]["code"]) == ("idempotency_key_reuse", "idempotency_key_reuse")
    assert same["error"]["details"]["job_id"] == job["id"]
    _, page = await get(client, f"{JOBS}?limit=2")
    assert [entry["id"] for entry in page["jobs"]] == [job["id"], *(entry["id"] for entry in before["jobs"])]
    for wrong in ("", "ü", "x" * 256):
        status, envelope = await post(client, JOBS, {"workflow": workflows.noise()}, **{"Idempotency-Key": wrong})
        assert (status, envelope["error"]["code"]) == (400, "invalid_request")


async def test_jobs_are_listed_page_by_page(own_client: aiohttp.ClientSession) -> None:
    """Newest first; a cursor leads to the next page; labels and statuses leave out others; other APIs' stay away."""
    client = own_client
    made = []
    for index in range(5):
        labels = {"parity": "even" if index % 2 == 0 else "odd", "run": "7"}
        made.append((await run(client, workflows.colour((index, 0, 0)), metadata=labels))["id"])
    await post(client, "/runsync", {"input": {"workflow": workflows.noise()}})
    newest_first = made[::-1]
    pages, path = [], f"{JOBS}?limit=2"
    while path:
        _, page = await get(client, path)
        pages.append([job["id"] for job in page["jobs"]])
        path = f"{JOBS}?limit=2&cursor={page['next_cursor']}" if "next_cursor" in page else ""
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    _, odd = await get(client, f"{JOBS}?metadata[parity]=odd&metadata[run]=7&limit=1")
    assert [job["metadata"]["parity"] for job in odd["jobs"]] == ["odd"]
    _, none = await get(client, f"{JOBS}?metadata[parity]=neither")
    _, failed = await get(client, f"{JOBS}?status=failed&status=canceled")
    assert (none, failed) == ({"jobs": []}, {"jobs": []})
    wrong = {
        "cursor=nonsense": "invalid_cursor",
        "metadata=x": "invalid_metadata_filter",
        "metadata[]=x": "invalid_metadata_filter",
        "metadata[a]=x&metadata[a]=y": "invalid_metadata_filter",
        "limit=0": "invalid_request",
        "limit=x": "invalid_request",
        "status=unheard": "invalid_request",
    }
    for query, code in wrong.items():
        status, envelope = await get(client, f"{JOBS}?{query}")
        assert (status, envelope["error"]["code"]) == (400, code), query


async def test_an_upload_and_its_routes(client: aiohttp.ClientSession) -> None:
    """Bytes come back as they were, by id, by hash, in part; a HEAD by hash says whether they are here."""
    data = bytes(range(256)) * 3000
    digest = f"blake3:{blake3(data).hexdigest()}"
    status, asset = await upload(
        client, ("content_type", "video/mp4"), ("file_path", "a film.mp4"), ("expected_hash", digest), ("file", data)
    )
    assert (status, asset["hash"], asset["created_new"], asset["size_bytes"]) == (201, digest, True, len(data))
    assert (asset["content_type"], asset["file_path"], asset["job_id"]) == ("video/mp4", "a film.mp4", None)
    _, shown = await get(client, f"{ASSETS}/{asset['id']}")
    anew = ("url", "url_expires_at", "created_new")
    assert [{key: found[key] for key in found if key not in anew} for found in (shown, asset)] == [
        {key: shown[key] for key in shown if key not in anew}
    ] * 2
    for path, asked, expected, found in (
        (f"{ASSETS}/{asset['id']}/content", {}, data, 200),
        (f"{ASSETS}/{asset['id']}/content", {"Range": "bytes=250-259"}, data[250:260], 206),
        (asset["url"], {"Range": "bytes=-4"}, data[-4:], 206),
    ):
        async with client.get(path, headers=asked) as answer:
            assert (answer.status, await answer.read(), answer.content_type) == (found, expected, "video/mp4")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for probed, expected_status in ((digest, 200), (f"blake3:{'0' * 64}", 404), ("nonsense", 400)):
        async with client.head(f"{ASSETS}/by-hash/{probed}") as answer:
            assert answer.status == expected_status
    status, again = await post(client, f"{ASSETS}/from-hash", {"hash": digest, "file_path": "b.mp4", "tags": ["x"]})
    assert (status, again["created_new"], again["file_path"], again["id"] != asset["id"]) == (200, False, "b.mp4", True)
    status, late = await upload(client, ("file", b"a"), ("file_path", "late.png"), ("content_type", "image/png"))
    assert (status, late["file_path"], late["content_type"], late["created_new"]) == (
        201,
        "late.png",
        "image/png",
        True,
    )
    async with client.delete(f"{ASSETS}/{asset['id']}") as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    assert (await get(client, f"{ASSETS}/{asset['id']}"))[0] == 404
    async with client.get(f"{ASSETS}/{again['id']}/content") as answer:
        assert await answer.read() == data


async def test_an_upload_is_refused_with_what_is_wrong(client: aiohttp.ClientSession) -> None:
    """Nothing of it is kept then."""
    data = b"x" * 1000
    other = f"blake3:{'0' * 64}"
    cases: list[tuple[int, str, tuple[tuple[str, bytes | str], ...]]] = [
        (409, "hash_mismatch", (("expected_hash", other), ("file", data))),
        (400, "invalid_request", (("expected_hash", "nonsense"), ("file", data))),
        (409, "hash_mismatch", (("file", data), ("expected_hash", other))),
        (400, "invalid_request", (("file", data), ("file_path", "two\nlines"))),
        (400, "invalid_request", (("content_type", "nonsense"), ("file", data))),
        (400, "invalid_request", (("file", data), ("file", data))),
        (400, "invalid_request", (("file_path", "no file"),)),
        (400, "invalid_request", (("file_path", "two\nlines"), ("file", data))),
        (400, "invalid_request", (("file_path", "x" * 70_000), ("file", data))),
        (400, "invalid_request", (("file_path", b"\xff\xfe"), ("file", data))),
        (413, "asset_too_large", (("file", b"x" * (LIMIT_BYTES + 1)),)),
        (413, "asset_too_large", (("file", b"x" * (LIMIT_BYTES + 100_000)),)),
    ]
    for status, code, parts in cases:
        answered, envelope = await upload(client, *parts)
        assert (answered, envelope["error"]["code"]) == (status, code), parts[0][0]
    for content_type, body in (
        ("application/json", b"{}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=b", b"no form"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut'),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\n1\r\n--b--\r\n"),
    ):
        async with client.post(ASSETS, data=body, headers={"Content-Type": content_type}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_request"), body
    asked: Any
    for asked, status, code in (
        ({"hash": other}, 404, "blob_not_found"),
        ({"hash": "nonsense"}, 400, "invalid_request"),
        ({"hash": 3}, 400, "invalid_request"),
        ({"hash": other, "file_path": 3}, 400, "invalid_request"),
        ({"hash": other, "file_path": "two\nlines"}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
    ):
        answered, envelope = await post(client, f"{ASSETS}/from-hash", asked)
        assert (answered, envelope["error"]["code"]) == (status, code)
    async with client.head(f"{ASSETS}/by-hash/blake3:{blake3(data).hexdigest()}") as answer:
        assert answer.status == 404


async def test_an_upload_without_a_length(client: aiohttp.ClientSession) -> None:
    """One that is sent piece by piece is taken, and cut off when it is too large."""

    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        for _ in range(count):
            yield b"y" * 10_000
        yield b"\r\n--b--\r\n"

    async with client.post(ASSETS, data=pieces(3), headers=FORM) as answer:
        small = await answer.json()
    assert (answer.status, small["size_bytes"], small["file_path"]) == (201, 30_000, "a.bin")
    async with client.post(ASSETS, data=pieces(LIMIT_BYTES // 10_000 + 1), headers=FORM) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "asset_too_large")


async def test_an_asset_that_goes_before_its_job_begins(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The job has it all the same; a file that is no picture fails it, and is called by its name."""
    gate = tmp_path / "gate"
    waiting = [(await post(client, JOBS, {"workflow": workflows.wait(until_file=gate)}))[1] for _ in range(3)]
    red = encoded(Image.new("RGB", (16, 16), (255, 0, 0)), "PNG")
    _, picture = await upload(client, ("file_path", "photo.png"), ("file", red))
    _, words = await upload(client, ("file_path", "words.png"), ("file", b"just words"))
    jobs = []
    for asset in (picture, words):
        reference = {"__type": "core/ASSET", "info": {"id": asset["id"]}}
        graph = {**workflows.invert(), "1": workflows.node("LoadImage", image=reference)}
        jobs.append((await post(client, JOBS, {"workflow": graph}))[1])
        async with client.delete(f"{ASSETS}/{asset['id']}") as answer:
            assert answer.status == 204
    gate.touch()
    good, bad = [await ended(client, job["id"]) for job in jobs]
    assert [(await ended(client, job["id"]))["status"] for job in waiting] == ["succeeded"] * 3
    async with client.get(good["outputs"][0]["url"]) as answer:
        assert opened(await answer.read()).getpixel((0, 0)) == (0, 255, 255)
    assert (bad["error"]["code"], "/words.png' is named as a picture" in bad["error"]["message"]) == (
        "invalid_request", True,
    )  # fmt: skip


async def test_a_partner_key_is_nowhere_to_be_found(
    own_client: aiohttp.ClientSession, own_server: Serving, tmp_path: Path
) -> None:
    """It goes to ComfyUI with the job, and into no answer, log or file."""
    secret = "comfyui-partner-key-000"
    _, job = await post(own_client, JOBS, {"workflow": workflows.noise(), "extra_data": {"api_key_comfy_org": secret}})
    finished = await ended(own_client, job["id"])
    assert finished["status"] == "succeeded"
    shown = [
        finished,
        await get(own_client, f"{JOBS}/{job['id']}/workflow"),
        await get(own_client, JOBS),
        own_server.log_text(),
    ]
    assert secret not in str(shown)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert kept == []


async def test_results_expire(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The job is then expired, its outputs and its workflow are gone; so is an upload whose time is over."""
    environ = {"RESULT_TTL_S": "0.5", "ASSET_TTL_S": "0.5"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server) as client:
        _, asset = await upload(client, ("file", b"soon gone"))
        _, job = await post(client, JOBS, {"workflow": workflows.noise()})

        async def expired() -> Any:
            _, found = await get(client, f"{JOBS}/{job['id']}")
            return found if found["status"] == "expired" else None

        found = await eventually(expired)
        assert (found["outputs"], moment(found["expires_at"]) < datetime.now(UTC)) == ([], True)
        assert (await get(client, f"{JOBS}/{job['id']}/workflow"))[0] == 404
        assert (await get(client, f"{ASSETS}/{asset['id']}"))[0] == 404


async def test_many_at_once_get_their_own_pictures(client: aiohttp.ClientSession) -> None:
    """Jobs that overlap never mix up their outputs."""
    colours = [(index, 255 - index, 7) for index in range(12)]

    async def one(rgb: tuple[int, int, int]) -> bytes:
        job = await run(client, workflows.colour(rgb))
        async with client.get(job["outputs"][0]["url"]) as answer:
            return await answer.read()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(rgb)) for rgb in colours]
    assert [opened(task.result()).getpixel((0, 0)) for task in tasks] == colours


async def test_a_job_of_another_api_has_its_workflow(client: aiohttp.ClientSession) -> None:
    """As it was understood; one that names a modifier has none, and is told so."""
    graph = workflows.colour((1, 2, 3))
    _, plain = await post(client, "/run", {"input": {"workflow": graph}})
    assert await get(client, f"{JOBS}/{plain['id']}/workflow") == (200, {"workflow": graph, "format": "api"})
    _, named = await post(client, "/run", {"input": {"modifier": "Text2Image", "modifications": {"prompt": "a cat"}}})
    status, refused = await get(client, f"{JOBS}/{named['id']}/workflow")
    assert (status, refused["error"]["code"]) == (404, "not_found")
    assert "brought no workflow" in refused["error"]["message"]
    await post(client, f"/cancel/{named['id']}")  # it would sample for long


async def test_links_lead_below_the_path_of_the_public_url(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A proxy in front may serve it below a path of its own."""
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir), "PUBLIC_URL": "http://127.0.0.1:1/comfy/"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server) as client:
        async with client.post(JOBS, json={"workflow": workflows.colour((1, 2, 3))}) as answer:
            location, job = answer.headers["Location"], await answer.json()
        own = f"/comfy{JOBS}/{job['id']}"
        assert (location, job["urls"]["self"], job["urls"]["events"]) == (own, own, f"{own}/events")
        [output] = (await ended(client, job["id"]))["outputs"]
    assert output["url"].startswith("http://127.0.0.1:1/comfy/artifacts/")
