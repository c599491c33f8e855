"""`make image` and `make deploy`: what they would do, and what they say where they cannot."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.source import REPOSITORY
from tools.image import bake_targets
from tools.runpod_endpoint import EndpointPlan, create_endpoint

KEY = "rpa_s3cr3t"
PLAN = EndpointPlan(name="pictures", image="me/comfyworker:v1-base")


def call(*args: str, path: str = os.defpath, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the tool with no more in its environment than `environ`."""
    command = [sys.executable, "-m", "tools.image", *args]
    variables = {"PATH": path, **environ}
    return subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False)


def test_the_variants_are_those_of_the_configs() -> None:
    """Each model type that can be baked has a target, and each target's arguments are the Dockerfile's."""
    text = (REPOSITORY / "docker-bake.hcl").read_text(encoding="utf-8")
    targets = bake_targets(text)
    configs = {path.stem for path in (REPOSITORY / "configs").glob("*.yml")}
    assert set(targets) == configs | {"base", "pod", "config"}
    assert targets["sd1.5"] == "sd1-5"
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    for name in ("COMFYUI_REF", "VERSION", "REVISION", "CREATED", "MODEL_TYPE", "JUPYTER", "SSHD", "SAGE_ATTENTION"):
        assert f" {name} " in text
        assert f"ARG {name}" in dockerfile


def test_a_dry_run_tells_the_command() -> None:
    """Nothing is run, not even docker."""
    done = call("build", "sd1.5", "--name", "docker.io/me/comfyworker", "--tag", "v1", "--dry-run", path="")
    assert done.returncode == 0
    assert done.stdout.startswith("NAME=docker.io/me/comfyworker TAG=v1 REVISION=")
    assert done.stdout.endswith(" docker buildx bake sd1-5 --load\n")


def test_a_dry_deploy_tells_how_the_endpoint_is_made() -> None:
    """By the console, and by two calls, in which the key is named and not written."""
    done = call("deploy", "sdxl", "--name", "me/comfyworker", "--tag", "v1", "--dry-run", RUNPOD_API_KEY=KEY)
    assert done.returncode == 0
    assert "docker buildx bake sdxl --push" in done.stdout
    assert '"imageName": "me/comfyworker:v1-sdxl"' in done.stdout
    assert "Bearer $RUNPOD_API_KEY" in done.stdout
    assert KEY not in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["build", "sd9"], "there is no variant 'sd9'. There is: base, pod, sd1.5", id="variant"),
        pytest.param(["build", "base", "--name", "Me:1"], "'Me:1' is no name of an image", id="name"),
        pytest.param(["build", "base", "--tag", "a b"], "'a b' is no tag", id="tag"),
        pytest.param(["deploy", "base"], "make deploy NAME=docker.io/me/comfyworker", id="nowhere to push to"),
        pytest.param(["deploy", "base", "--name", "me/x", "--endpoint", "e"], "RUNPOD_API_KEY is not set", id="key"),
    ],
)
def test_a_mistake_is_one_line(args: list[str], said: str) -> None:
    """It says what is wrong, and nothing is begun."""
    done = call(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_docker_it_says_so(tmp_path: Path) -> None:
    """It names what is missing, and where it is to be had."""
    done = call("build", "base", path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "error: docker is not installed: https://docs.docker.com/engine/install/ says how\n"


def test_without_an_engine_it_says_so() -> None:
    """A docker that cannot build is told apart: no buildx, or no engine."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0:
        pytest.skip("needs docker's client without an engine")
    done = call("build", "base", path=f"{Path(docker).parent}:{os.defpath}")
    assert done.returncode == 1
    assert "docker has no buildx" in done.stderr or "docker's engine does not answer" in done.stderr


@dataclass
class Platform:
    """RunPod's REST API, as far as an endpoint is made by it."""

    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    refuses: tuple[int, str] | None = None


@pytest.fixture
def platform() -> Iterator[Platform]:
    """A server that makes what it is asked for, or refuses it."""
    state = Platform()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, self.headers["Authorization"], body))
            code, answer = state.refuses or (201, json.dumps({"id": f"id-of{self.path.replace('/', '-')}"}))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base has it
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()


def test_an_endpoint_is_made_of_a_template(platform: Platform) -> None:
    """The template has the image, the endpoint the template; no worker waits for jobs."""
    told = create_endpoint(PLAN, key=KEY, url=platform.url)
    (first, bearer, template), (second, _, endpoint) = platform.asked
    assert (first, second, bearer) == ("/templates", "/endpoints", f"Bearer {KEY}")
    assert (template["imageName"], template["isServerless"]) == ("me/comfyworker:v1-base", True)
    assert (endpoint["templateId"], endpoint["workersMin"], endpoint["name"]) == ("id-of-templates", 0, "pictures")
    assert "/v2/id-of-endpoints/runsync" in told
    assert KEY not in told


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        pytest.param((401, ""), "401: RUNPOD_API_KEY is not taken", id="key"),
        pytest.param((400, "name is taken"), "POST /templates was answered with 400: name is taken", id="name"),
        pytest.param((200, "<html>"), "no JSON", id="page"),
        pytest.param((200, "[]"), "without an id", id="no id"),
    ],
)
def test_what_runpod_refuses_is_told(platform: Platform, refuses: tuple[int, str], said: str) -> None:
    """With its own words; the key is not repeated."""
    platform.refuses = refuses
    with pytest.raises(OSError, match="POST /templates") as caught:
        create_endpoint(PLAN, key=KEY, url=platform.url)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)
