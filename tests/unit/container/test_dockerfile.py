"""The Dockerfile does nothing that no test runs, and what it says agrees with the rest of the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from comfyworker.comfyui.installing.request import DEFAULT_REF
from comfyworker.comfyui.installing.request import REPOSITORY as COMFYUI_REPOSITORY
from comfyworker.settings import list_settings
from support.dockerfile import read_dockerfile
from support.source import REPOSITORY

DOCKERFILE = read_dockerfile()
RUNS = [(stage.name, text) for stage in DOCKERFILE.stages.values() for text in stage.arguments("RUN")]
SCRIPTS = sorted((REPOSITORY / "docker").glob("*.sh"))


def command_of(run: str) -> str:
    """Return a RUN without its mounts."""
    return re.sub(r"^(--mount=\S+\s+)*", "", run)


def mounts_of(run: str) -> list[dict[str, str]]:
    """Return the mounts of a RUN."""
    return [dict(part.partition("=")[::2] for part in text.split(",")) for text in re.findall(r"--mount=(\S+)", run)]


@pytest.mark.parametrize(("stage", "run"), RUNS, ids=[f"{stage} {command_of(run).split()[0]}" for stage, run in RUNS])
def test_a_step_is_a_script_with_all_it_reads(stage: str, run: str) -> None:
    """It runs one of docker/*.sh, which is mounted for it like every file that it is given."""
    script, *words = command_of(run).split()
    mounts = {mount["target"]: mount for mount in mounts_of(run) if mount["type"] == "bind"}
    assert mounts[script]["source"] == f"docker/{Path(script).name}", stage
    assert (REPOSITORY / mounts[script]["source"]).stat().st_mode & 0o111
    for word in words:
        if word.startswith("/build/") and word != "/build/source":
            assert word in mounts
    assert not set("&|;`") & set(command_of(run))


def test_what_is_mounted_is_sent_to_the_builder() -> None:
    """.dockerignore lets through every path that a step mounts or copies, and no more than those."""
    allowed = set()
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line.startswith("!"):
            allowed.add(line[1:])
    wanted = {
        mount["source"].split("/")[0] for _, run in RUNS for mount in mounts_of(run)
        if mount["type"] == "bind" and "from" not in mount
    }  # fmt: skip
    assert allowed == wanted
    assert [name for name in sorted(allowed) if not (REPOSITORY / name).exists()] == []
    assert ".env" not in allowed
    assert ".secrets" not in allowed


def test_every_script_is_part_of_the_image() -> None:
    """None is left over, and all are of the same shell."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert [path.name for path in SCRIPTS if path.name not in text] == []
    assert {path.read_text(encoding="utf-8").splitlines()[0] for path in SCRIPTS} == {"#!/bin/sh"}
    assert [path.name for path in SCRIPTS if "\nset -eu\n" not in path.read_text(encoding="utf-8")] == []


def test_bases_are_pinned() -> None:
    """Each image that is fetched has a tag of its own, no `latest`."""
    found = [stage.base for stage in DOCKERFILE.stages.values()]
    fetched = [DOCKERFILE.arguments.get(base.strip("${}"), base) for base in found]
    fetched = [base for base in fetched if base not in DOCKERFILE.stages and not base.startswith("sageattention-")]
    assert fetched
    assert [base for base in fetched if not re.search(r":\d+\.\d+\.\d+", base)] == []


def test_secrets_are_in_no_layer() -> None:
    """Tokens are build secrets, which end with their step; no ARG or ENV holds one."""
    names = {name for entry in list_settings() if entry.is_secret for name in entry.names}
    given = [text.partition("=")[0] for stage in DOCKERFILE.stages.values() for text in stage.arguments("ARG")]
    assert names & {*given, *DOCKERFILE.arguments, *DOCKERFILE.environ("image")} == set()
    secrets = {mount["env"] for _, run in RUNS for mount in mounts_of(run) if mount["type"] == "secret"}
    assert secrets == {"HF_TOKEN", "CIVITAI_TOKEN", "GITHUB_TOKEN"}
    assert secrets <= names


def test_the_environment_is_of_settings_that_there_are() -> None:
    """What ENV sets for the worker is a setting."""
    settings = {name for entry in list_settings() for name in entry.names}
    others = {name for name in DOCKERFILE.environ("image") if name not in settings}
    assert others == {"PATH", "PYTHONUNBUFFERED", "UV_COMPILE_BYTECODE", "UV_LINK_MODE", "UV_PYTHON_DOWNLOADS"}


def test_comfyui_is_the_one_that_an_install_brings() -> None:
    """The image has the same version from the same repository as `comfyworker comfyui install`."""
    assert DOCKERFILE.arguments["COMFYUI_REF"] == DEFAULT_REF
    script = (REPOSITORY / "docker/install-comfyui.sh").read_text(encoding="utf-8")
    assert f"COMFYUI_REF:-{DEFAULT_REF}" in script
    assert f"COMFYUI_REPOSITORY={COMFYUI_REPOSITORY}" in DOCKERFILE.stages["comfyui"].arguments("ARG")


def test_what_changes_most_comes_last() -> None:
    """The worker's code is laid over everything that takes long and does not depend on it."""
    steps = [text for stage in DOCKERFILE.chain("image") for text in stage.arguments("RUN")]
    order = [Path(command_of(text).split()[0]).stem for text in steps]
    assert order == [
        "install-system", "install-comfyui", "install-wheels", "install-jupyter", "install-wheels", "bake-nodes",
    ]  # fmt: skip
    assert [run for _, run in RUNS if "source=src" in run and "build-package" not in run] == []


def test_the_last_stage_is_the_image() -> None:
    """It runs the worker below an init, takes SIGTERM, and says what it is."""
    image = DOCKERFILE.stages["image"]
    assert list(DOCKERFILE.stages)[-1] == "image"
    assert DOCKERFILE.exec_form("image", "ENTRYPOINT") == ["tini", "--", "comfyworker-entrypoint"]
    assert DOCKERFILE.exec_form("image", "CMD") == ["comfyworker", "start"]
    assert image.arguments("STOPSIGNAL") == ["SIGTERM"]
    labels = " ".join(image.arguments("LABEL"))
    for name in ("title", "description", "licenses", "version", "revision", "created", "base.name"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert DOCKERFILE.arguments["BASE_IMAGE"] in labels


def test_its_linters_find_nothing() -> None:
    """Those of Dockerfiles and shell scripts, as `make check` calls them."""
    for command in (["hadolint", "Dockerfile"], ["shellcheck", *map(str, SCRIPTS)]):
        tool = Path(sys.executable).with_name(command[0])
        done = subprocess.run([tool, *command[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")
