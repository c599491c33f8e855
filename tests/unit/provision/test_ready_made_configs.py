"""The configs that come with the project: each has a workflow that needs exactly its models."""

from pathlib import Path

import orjson
import pytest

from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.proposal import Source, propose_config, render_proposal
from comfyworker.provision.proposal.known_models import known_models
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.needs import inspect_workflow
from support.source import REPOSITORY

WORKFLOWS = REPOSITORY / "examples/workflows"
CONFIGS = {
    "config.yml": ["sd1.5"],
    "configs/sd1.5.yml": ["sd1.5"],
    "config.example.yml": ["wan2.2-animate"],
    "configs/sdxl.yml": ["sdxl"],
    "configs/sd3.yml": ["sd3"],
    "configs/flux1-schnell.yml": ["flux1-schnell"],
    "configs/flux1-dev.yml": ["flux1-dev", "flux1-dev-ipadapter"],
    "configs/flux1-dev-fp8.yml": ["flux1-dev-fp8"],
    "configs/z-image-turbo.yml": ["z-image-turbo"],
}


def models_of_config(path: Path) -> set[str]:
    """Return the models of a config as `folder/name`; files of one folder below a kind are one model."""
    config = parse_config(path.read_text(encoding="utf-8"), name=path.name)
    return {
        entry.destination if "/" in entry.destination else f"{entry.destination}/{entry.url.rpartition('/')[2]}"
        for entry in config.models
    }


def models_of_workflow(name: str) -> set[str]:
    """Return the models that `comfyworker workflow inspect` finds in a workflow, as `folder/name`."""
    graph = read_workflow(orjson.loads((WORKFLOWS / f"{name}.json").read_bytes()))
    return {f"{need.folder}/{need.name}" for need in inspect_workflow(graph).models}


@pytest.mark.parametrize(("config", "workflows"), CONFIGS.items(), ids=CONFIGS)
def test_the_workflows_of_a_config_need_exactly_its_models(config: str, workflows: list[str]) -> None:
    """Nothing is fetched in vain, and nothing is missing when the workflow runs."""
    needed = set().union(*(models_of_workflow(name) for name in workflows))
    assert needed == models_of_config(REPOSITORY / config)


def test_every_config_and_every_workflow_is_told_of_here() -> None:
    """A new one comes with its counterpart."""
    paths = [*REPOSITORY.glob("config*.yml"), *(REPOSITORY / "configs").glob("*.yml")]
    assert {str(path.relative_to(REPOSITORY)) for path in paths} == set(CONFIGS)
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == {name for names in CONFIGS.values() for name in names}


def test_their_models_are_known_wherever_a_workflow_names_them() -> None:
    """`known_models.toml` has the models of all configs under their names, with all of their URLs, and no others."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for name in CONFIGS:
        for entry in parse_config((REPOSITORY / name).read_text(encoding="utf-8"), name=name).models:
            place = (entry.destination, entry.filename or entry.url.rpartition("/")[2])
            wanted.setdefault(place, set()).add(entry.url)
    assert {place: set(urls) for place, urls in known_models().items()} == wanted


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_nothing_in_the_config_of_an_example_is_left_to_be_filled_in(path: Path) -> None:
    """Its models' URLs are known, and where its custom nodes are."""
    graph = read_workflow(orjson.loads(path.read_bytes()))
    proposal = propose_config(Source(graph))
    assert [model for model in proposal.models if not model.is_whole] == []
    assert [pack for pack in proposal.packs if not pack.is_whole] == []
    config = parse_config(render_proposal(proposal), name="config.yml")
    assert len(config.models) == len(proposal.models) > 0
