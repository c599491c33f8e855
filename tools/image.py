"""Build the image, push it, and make a RunPod endpoint of it: `make image` and `make deploy`.

    python -m tools.image build sdxl --name docker.io/me/comfyworker
    python -m tools.image deploy sdxl --name docker.io/me/comfyworker --endpoint pictures

The variants stand in docker-bake.hcl. HF_TOKEN, CIVITAI_TOKEN and GITHUB_TOKEN of the environment are the build's
secrets; RUNPOD_API_KEY is what an endpoint is made with.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import hcl2

from tools.runpod_endpoint import EndpointPlan, create_endpoint, how_to_create

REPOSITORY = Path(__file__).resolve().parent.parent
BAKE_FILE = REPOSITORY / "docker-bake.hcl"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(?::[0-9]+)?(?:/[a-z0-9][a-z0-9._-]*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says; a mistake is one line on stderr and exit code 2, a failure 1."""
    options = _parser().parse_args(argv)
    targets = bake_targets(BAKE_FILE.read_text(encoding="utf-8"))
    if options.variant not in targets:
        _fail(f"there is no variant '{options.variant}'. There is: {', '.join(targets)}", code=2)
    if not _NAME.fullmatch(options.name):
        _fail(f"'{options.name}' is no name of an image. One is docker.io/me/comfyworker, without a tag", code=2)
    tag = options.tag or _git("describe", "--always", "--dirty") or "dev"
    if not _TAG.fullmatch(tag):
        _fail(f"'{tag}' is no tag", code=2)
    is_deploy = options.action == "deploy"
    if is_deploy and "/" not in options.name:
        _fail("a name to push to is needed: make deploy NAME=docker.io/me/comfyworker", code=2)
    plan = EndpointPlan(name=options.endpoint, image=f"{options.name}:{tag}-{options.variant}") if is_deploy else None
    key = os.environ.get("RUNPOD_API_KEY", "")
    if plan is not None and plan.name and not key and not options.dry_run:
        _fail("ENDPOINT is given, but RUNPOD_API_KEY is not set: RunPod's console makes one under Settings", code=2)
    command = ["docker", "buildx", "bake", targets[options.variant], "--push" if is_deploy else "--load"]
    variables = {
        "NAME": options.name, "TAG": tag, "REVISION": _git("rev-parse", "HEAD") or "unknown",
        "CREATED": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    _run(command, variables, is_dry=options.dry_run)
    if plan is None:
        return
    if options.dry_run or not plan.name:
        print(how_to_create(plan))
        return
    try:
        print(create_endpoint(plan, key=key, url=options.runpod_url))
    except OSError as error:
        _fail(f"the image is pushed, but RunPod made no endpoint: {error}")


def bake_targets(text: str) -> dict[str, str]:
    """Return the target of each variant in a bake file; the ones of a matrix under the value that they stand for."""
    found: dict[str, str] = {}
    for block in hcl2.loads(text)["target"]:
        for quoted, body in block.items():
            models = [model.strip('"') for model in body.get("matrix", {}).get("model", [])]
            if models:
                found |= {model: model.replace(".", "-") for model in models}
            else:
                found[quoted.strip('"')] = quoted.strip('"')
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__)
    parser.add_argument("action", choices=("build", "deploy"))
    parser.add_argument("variant")
    parser.add_argument("--name", default="comfyworker", help="the image's name, without a tag")
    parser.add_argument("--tag", default="", help="before the variant; without it, what git calls the commit")
    parser.add_argument("--endpoint", default="", help="make a RunPod endpoint of this name")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument("--runpod-url", default="https://rest.runpod.io/v1", help=argparse.SUPPRESS)
    return parser


def _run(command: Sequence[str], variables: Mapping[str, str], *, is_dry: bool) -> None:
    said = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])
    print(said, flush=True)
    if is_dry:
        return
    _require_docker()
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **variables}, check=False)
    if done.returncode:
        _fail(f"{shlex.join(command[:3])} ended with {done.returncode}; the lines above say why")


def _require_docker() -> None:
    if shutil.which("docker") is None:
        _fail("docker is not installed: https://docs.docker.com/engine/install/ says how")
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode:
        _fail("docker has no buildx: install the package docker-buildx-plugin (on Debian's own, docker-buildx)")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        _fail("docker's engine does not answer: is it running, and may this user speak to it? `docker info` says more")


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _fail(message: str, *, code: int = 1) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
