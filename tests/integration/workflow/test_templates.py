"""The workflows that ComfyUI ships as templates, all saved by its page: a real measure of the conversion."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from comfyworker.errors import Problem
from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, check_workflow
from comfyworker.workflow.gui import Conversion, convert_what_can_be, is_gui_format
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.needs import Needs, inspect_workflow
from support.comfyui_judge import open_judge
from support.real_comfyui import Install

TEMPLATES = "comfyui_workflow_templates*/templates/*.json"
FILES_ARE_MISSING = {"missing_model", "missing_asset"}

KNOWN_REFUSED = {
    # Its nodes are those of comfyui_controlnet_aux, KJNodes and comfyui-segment-anything-2.
    "video_wan2_2_14B_animate": {
        "BlockifyMask", "DWPreprocessor", "DownloadAndLoadSAM2Model", "DrawMaskOnImage", "PixelPerfectResolution",
        "PointsEditor", "Sam2Segmentation",
    },
}  # fmt: skip
"""Templates that cannot be converted here → the classes that they need and ComfyUI itself does not bring."""
KNOWN_INVALID = {
    # Both were saved when MoonvalleyVideo2VideoNode had no `steps` and a control behind its seed. Values have no names
    # in the file, so they land in the wrong widgets, on ComfyUI's own page as here.
    "api_moonvalley_video_to_video_motion_transfer": {"invalid_input_type"},
    "api_moonvalley_video_to_video_pose_control": {"value_bigger_than_max"},
}
"""Templates that ComfyUI refuses after the conversion → its errors besides those for missing files."""


@dataclass
class Corpus:
    """All templates, what became of them, and what ComfyUI says."""

    listed: dict[str, Conversion] = field(default_factory=dict)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    needs: dict[str, Needs] = field(default_factory=dict)
    answers: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def converted(self) -> dict[str, Graph]:
        """Return the graphs of those that were converted whole."""
        return {name: done.graph for name, done in self.listed.items() if not done.problems}

    @property
    def refused(self) -> dict[str, tuple[Problem, ...]]:
        """Return the reasons of those that were not."""
        return {name: done.problems for name, done in self.listed.items() if done.problems}

    def errors(self, name: str) -> set[str]:
        """Return the types of ComfyUI's errors for one workflow, those for missing files left out."""
        node_errors = self.answers[name]["node_errors"] or {}
        errors = [error for entry in node_errors.values() for error in entry["errors"]]
        if not errors and not self.answers[name]["valid"]:
            return {self.answers[name]["error"]["type"]}
        return {error["type"] for error in errors if not _is_missing_file(error)}


def _is_missing_file(error: dict[str, Any]) -> bool:
    if error["type"] == "value_not_in_list":
        return is_model_name(error["extra_info"]["received_value"])
    return error["type"] == "custom_validation_failed" and " file: " in error["details"]


@pytest.fixture(scope="module")
def corpus(comfyui_install: Install, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Convert every template against the classes of the real ComfyUI, and ask it what it says of the results."""
    corpus = Corpus()
    with open_judge(comfyui_install, tmp_path_factory.mktemp("judge"), os.environ) as judge:
        classes = NodeClasses(judge.object_info)
        for path in _template_paths(comfyui_install):
            value = json.loads(path.read_text())
            if is_gui_format(value):
                corpus.listed[path.stem] = done = convert_what_can_be(value, classes)
                corpus.problems[path.stem] = check_workflow(done.graph, classes)
                corpus.needs[path.stem] = inspect_workflow(done.graph, classes)
        corpus.answers = judge.judge(corpus.converted)
    return corpus


def _template_paths(install: Install) -> list[Path]:
    packages = install.python.parent.parent / "lib"
    return sorted(packages.glob(f"python*/site-packages/{TEMPLATES}"))


def test_every_template_converts_or_says_why_not(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    """The corpus is whole; what cannot be converted names each class that is missing."""
    reasons = {
        name: {str(problem.class_type) for problem in problems if problem.code == "missing_node"}
        for name, problems in corpus.refused.items()
    }
    with capsys.disabled():
        print("\n" + _figures(corpus))
    assert len(corpus.converted) + len(corpus.refused) == len(corpus.listed) > 0
    assert all(problem.code == "missing_node" for problems in corpus.refused.values() for problem in problems)
    assert reasons == KNOWN_REFUSED


def test_comfyui_takes_what_was_converted(corpus: Corpus) -> None:
    """ComfyUI's own validation finds nothing wrong but files that are not there."""
    errors = {name: found for name in corpus.converted if (found := corpus.errors(name))}
    assert errors == KNOWN_INVALID


def test_our_preflight_says_the_same(corpus: Corpus) -> None:
    """What ComfyUI refuses the preflight refuses, and nothing else, missing files apart."""
    refused = {
        name
        for name in corpus.converted
        if any(problem.code not in FILES_ARE_MISSING for problem in corpus.problems[name])
    }
    assert refused == set(KNOWN_INVALID)


def test_models_are_those_of_the_metadata(corpus: Corpus) -> None:
    """Each model that an active node's metadata lists is found in what was converted."""
    missed = {
        (name, entry.name, entry.node_id)
        for name in corpus.converted
        for entry in corpus.listed[name].listed_models
        if not any(entry.name == model.name and entry.node_id in model.node_ids for model in corpus.needs[name].models)
    }
    assert missed == set()


def test_folders_are_those_of_the_metadata(corpus: Corpus) -> None:
    """Where the metadata says a model belongs, the table says so too."""
    wrong = {
        (entry.name, entry.folder, model.folder)
        for name in corpus.converted
        for entry in corpus.listed[name].listed_models
        for model in corpus.needs[name].models
        if entry.name == model.name and entry.node_id in model.node_ids and entry.folder != model.folder
    }
    assert wrong == set()


def _figures(corpus: Corpus) -> str:
    entries = [entry for name in corpus.converted for entry in corpus.listed[name].listed_models]
    found = [model for name in corpus.converted for model in corpus.needs[name].models]
    missing = Counter(
        class_type
        for problems in corpus.refused.values()
        for class_type in {problem.class_type for problem in problems}
    )
    valid = [name for name in corpus.converted if not corpus.errors(name)]
    lines = [
        f"templates: {len(corpus.listed)}, with subgraphs: {_with_subgraphs(corpus)}",
        f"converted: {len(corpus.converted)}, refused: {len(corpus.refused)} for {len(missing)} missing classes",
        f"valid for ComfyUI but for missing files: {len(valid)}",
        f"models found: {len(found)}, listed in the metadata of active nodes: {len(entries)}",
    ]
    return "\n".join(lines)


def _with_subgraphs(corpus: Corpus) -> int:
    return sum(any(":" in node_id for node_id in done.graph) for done in corpus.listed.values())
