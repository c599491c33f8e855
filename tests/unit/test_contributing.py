"""What contributors and GitHub run is there: make targets, hooks, variants of the image."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.source import REPOSITORY
from tools.image import bake_targets

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
HOOKS: dict[str, Any] = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|[0-9a-f]{40})")
MAY_WRITE = {("image.yml", "image"): {"packages"}}
"""What a job may change beside nothing."""


def jobs_of(path: Path) -> dict[str, Any]:  # Any: YAML
    """Return a workflow's jobs."""
    jobs: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return jobs


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_there_is(path: Path) -> None:
    """Its make targets are the Makefile's, and its actions are pinned."""
    steps = [step for job in jobs_of(path).values() for step in job["steps"]]
    targets = {name for step in steps for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert targets - set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)) == set()
    assert [step["uses"] for step in steps if "uses" in step and not PINNED.fullmatch(step["uses"])] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_no_more_than_it_must(path: Path) -> None:
    """It reads the repository; a job that pushes an image says so. No token is kept, each job has a limit."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] == {"contents": "read"}
    for name, job in document["jobs"].items():
        granted = {what for what, how in job.get("permissions", {}).items() if how == "write"}
        assert granted == MAY_WRITE.get((path.name, name), set())
        assert job["timeout-minutes"] > 0
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_text_from_outside_becomes_a_part_of_a_script() -> None:
    """A branch's name in `${{ }}` inside of `run` would be code; the environment has it instead."""
    runs = [
        step["run"] for path in WORKFLOWS for job in jobs_of(path).values() for step in job["steps"] if "run" in step
    ]
    assert [run for run in runs if "${{" in run] == []


def test_the_tests_run_on_each_python_that_is_promised() -> None:
    """What pyproject.toml classifies is what the workflow tests."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [found[1] for line in project["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))]
    assert jobs_of(REPOSITORY / ".github/workflows/checks.yml")["test"]["strategy"]["matrix"]["python"] == promised


def test_a_release_builds_variants_that_there_are() -> None:
    """The workflow's variants are targets of docker-bake.hcl."""
    matrix = jobs_of(REPOSITORY / ".github/workflows/image.yml")["image"]["strategy"]["matrix"]["variant"]
    variants = set(re.findall(r'"([a-z0-9-]+)"', matrix))
    assert variants
    assert variants - set(bake_targets((REPOSITORY / "docker-bake.hcl").read_text(encoding="utf-8"))) == set()


def test_hooks_are_the_projects_own_tools() -> None:
    """None is fetched from anywhere, and the environment of `make setup` has each."""
    assert [repository["repo"] for repository in HOOKS["repos"]] == ["local"]
    hooks = HOOKS["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    programs = {hook["entry"].split()[0] for hook in hooks}
    there = {f".venv/bin/{path.name}" for path in Path(sys.executable).parent.iterdir()}
    assert programs - there == set()
