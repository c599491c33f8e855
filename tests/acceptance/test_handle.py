"""`comfyworker handle` as its user calls it, on a real ComfyUI."""

import base64
import io
import json
from pathlib import Path

import orjson
import pytest
from PIL import Image

from support import workflows
from support.command import Done, call, environment
from support.pipelines import png
from support.real_comfyui import RealComfyUI


def handle(comfyui: RealComfyUI, cwd: Path, body: object, **variables: str) -> Done:
    """Hand one request to the command on standard input."""
    return call("handle", environ=environment(comfyui, **variables), cwd=cwd, stdin=orjson.dumps(body))


def test_the_answer_is_worker_comfyuis(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Stdout holds exactly the platform's JSON, the log is on stderr as JSON lines, the exit code is 0."""
    graph = workflows.invert("in.png")
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = "answer"
    data_uri = "data:image/png;base64," + base64.b64encode(png((255, 255, 0))).decode()
    done = handle(comfyui, tmp_path, {"input": {"workflow": graph, "images": [{"name": "in.png", "image": data_uri}]}})
    answer = done.json()
    assert done.code == 0
    assert set(answer) == {"images"}
    assert [set(image) for image in answer["images"]] == [{"filename", "type", "data"}]
    assert (answer["images"][0]["filename"], answer["images"][0]["type"]) == ("answer_00001_.png", "base64")
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0]["data"])))
    assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert events[-1] == "job.ended"


def test_a_request_from_a_file(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A file's name does instead of standard input."""
    (tmp_path / "request.json").write_bytes(orjson.dumps({"input": {"workflow": workflows.colour((1, 2, 3))}}))
    done = call("handle", "request.json", environ=environment(comfyui), cwd=tmp_path)
    assert (done.code, len(done.json()["images"])) == (0, 1)


def test_nothing_produced(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A workflow that makes no file is upstream's success without images."""
    done = handle(comfyui, tmp_path, {"input": {"workflow": workflows.outputs({"text": ["hello"]})}})
    expected = {"status": "success_no_images", "images": [], "texts": [{"node_id": "1", "text": "hello"}]}
    assert (done.code, done.json()) == (0, expected)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param({"input": None}, "Please provide input", id="no input"),
        pytest.param({"input": "{no json"}, "Invalid JSON format in input", id="input no JSON"),
        pytest.param({"input": {"images": []}}, "Missing 'workflow' parameter", id="no workflow"),
        pytest.param(
            {"input": {"workflow": workflows.crash(), "images": ["x"]}},
            "'images' must be a list of objects with 'name' and 'image' keys",
            id="images",
        ),
    ],
)
def test_input_errors_have_upstreams_texts(comfyui: RealComfyUI, tmp_path: Path, body: object, error: str) -> None:
    """Clients compare these texts; the exit code is 1."""
    done = handle(comfyui, tmp_path, body)
    assert (done.code, done.json()["error"]) == (1, error)


def test_an_execution_error_has_upstreams_text(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A node that raises is told in upstream's words, without traceback."""
    done = handle(comfyui, tmp_path, {"input": {"workflow": workflows.failing("ValueError", "so it goes")}})
    assert (done.code, done.json()["error"]) == (
        1,
        "Workflow execution error: Node Type: TestRaise, Node ID: 2, Message: so it goes",
    )
    assert "Traceback" not in done.out + done.err


def test_standard_input_that_is_no_json(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Whoever reads stdout as JSON gets JSON, with the place of the mistake."""
    done = call("handle", "-", environ=environment(comfyui), cwd=tmp_path, stdin=b'{"input": ')
    assert done.code == 1
    assert done.json()["error"].startswith("the request is not JSON")


def test_a_planted_secret_leaves_nowhere(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The Comfy.org key of a request, and the worker's own, are in no answer and no log, whatever fails."""
    secrets = ("comfyui-request-0123456789", "comfyui-worker-0123456789")
    graph = workflows.failing("ValueError", "boom")
    body = {"input": {"workflow": graph, "comfy_org_api_key": secrets[0]}}
    done = handle(comfyui, tmp_path, body, COMFY_ORG_API_KEY=secrets[1], LOG_LEVEL="debug", WEBSOCKET_TRACE="1")
    assert done.code == 1
    assert [secret for secret in secrets if secret in done.out + done.err] == []


def test_disk_full_while_collecting(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A disk that is full while outputs are fetched from another machine fails the job; nothing is left on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of 256 kB of its own, in a namespace of its own: no root needed where users may make these.
    script = f'mount -t tmpfs -o size=256k tmpfs {disk} && "$@"; code=$?; ls -A {disk} >&2; exit $code'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    environ = environment(COMFY_API_URL=comfyui.url, SPOOL_DIR=str(disk), LOG_LEVEL="error")
    body = orjson.dumps({"input": {"workflow": workflows.noise(512, 512)}})
    done = call("handle", environ=environ, cwd=tmp_path, stdin=body, wrapper=wrapper)
    assert (done.code, done.json()["error_code"], done.err) == (1, "insufficient_storage", "")
    assert "disk is full" in done.json()["error"]
