"""The compose file: the container on one's own machine, with and without a GPU."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from comfyworker.settings import list_settings, load_settings
from support.dockerfile import read_dockerfile
from support.source import REPOSITORY

TEXT = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ENTRYPOINT = (REPOSITORY / "docker/entrypoint.sh").read_text(encoding="utf-8")


def interpolated(value: str) -> str:
    """Return a value as compose makes it where no variable is set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)


def test_it_fits_the_schema_of_compose_files() -> None:
    """The schema is the specification's own, and a wrong key would be seen."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [str(tool), "--builtin-schema", "vendor.compose-spec"]
    good = subprocess.run([*command, str(REPOSITORY / "docker-compose.yml")], capture_output=True, check=False)
    assert good.returncode == 0, good.stdout
    wrong = subprocess.run([*command, "-"], input=TEXT.replace("volumes:", "volume:").encode(), check=False,
                           capture_output=True)  # fmt: skip
    assert wrong.returncode == 1


def test_a_profile_is_for_each_kind_of_machine() -> None:
    """They are the same but for the GPU, so that what works with one works with the other."""
    gpu, cpu = dict(SERVICES["gpu"]), dict(SERVICES["cpu"])
    assert (gpu.pop("profiles"), cpu.pop("profiles")) == (["gpu"], ["cpu"])
    [device] = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert gpu == cpu


def test_only_this_machine_reaches_it() -> None:
    """All three ports are mapped to the loopback address, since nobody is asked for a key."""
    assert SERVICES["cpu"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in (8000, 8188, 8888)]
    assert " ".join(read_dockerfile().stages["image"].arguments("EXPOSE")) == "8000 8188 8888"


def test_what_lasts_lies_in_workspace() -> None:
    """ComfyUI and the state are on the mount; config.yml is where the worker looks for the image's own."""
    assert SERVICES["cpu"]["volumes"] == ["./workspace:/workspace", "./config.yml:/app/config.yml:ro"]
    environ = {name: interpolated(value) for name, value in SERVICES["cpu"]["environment"].items()}
    settings = load_settings({**environ, **read_dockerfile().environ("image")})
    assert settings.state.path == Path("/workspace/state")
    assert settings.comfyui.args == ("--listen", "0.0.0.0")
    assert settings.platform.serve_api_locally
    assert (settings.provision.hf_token, settings.provision.civitai_token) == (None, None)


def test_its_variables_mean_something() -> None:
    """Each is a setting of the worker or a variable of the entrypoint, each build argument one of the Dockerfile."""
    settings = {name for entry in list_settings() for name in entry.names}
    unknown = {name for name in SERVICES["cpu"]["environment"] if name not in settings}
    assert unknown == {"JUPYTER_PASSWORD"}
    assert "${JUPYTER_PASSWORD" in ENTRYPOINT
    dockerfile = read_dockerfile()
    given = {text.partition("=")[0] for stage in dockerfile.stages.values() for text in stage.arguments("ARG")}
    assert set(SERVICES["cpu"]["build"]["args"]) <= given
    assert SERVICES["cpu"]["build"]["target"] == "image"


def test_jobs_may_end_before_it_is_killed() -> None:
    """Docker waits longer than the worker gives its jobs and ComfyUI."""
    settings = load_settings({})
    needed_s = settings.http.drain_timeout_s + settings.shutdown.grace_s
    assert float(SERVICES["cpu"]["stop_grace_period"].removesuffix("s")) > needed_s


def test_its_health_is_the_servers() -> None:
    """It is asked by a script that the image has."""
    assert SERVICES["cpu"]["healthcheck"]["test"] == ["CMD", "comfyworker-healthcheck"]
    copied = read_dockerfile().stages["image"].arguments("COPY")
    assert "--link docker/healthcheck.sh /usr/local/bin/comfyworker-healthcheck" in copied
