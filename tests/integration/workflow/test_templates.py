"""The workflows that ComfyUI ships as templates, all saved by its page: a real measure of the conversion.

Two collections: the one that came with the tests' ComfyUI, and a newer one (comfyui-workflow-templates-json), most of
which needs classes that this ComfyUI does not have yet.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from comfyworker.errors import Problem
from comfyworker.jobs import Graph
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.proposal import Source, merge_proposals, propose_config, render_proposal
from comfyworker.provision.proposal.gathering import shared_url
from comfyworker.provision.proposal.packs import core_classes
from comfyworker.wording import Nearest, nearest
from comfyworker.workflow import NodeClasses, check_workflow
from comfyworker.workflow.gui import Conversion, convert_what_can_be, is_gui_format
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.needs import Needs, inspect_workflow
from support.comfyui_judge import Judge, open_judge
from support.real_comfyui import Install

TEMPLATES = "comfyui_workflow_templates*/templates/*.json"
FILES_ARE_MISSING = {"missing_model", "missing_asset"}

INSTALLED, NEWER = "installed", "newer"

KNOWN_REFUSED = {
    # Its nodes are those of comfyui_controlnet_aux, KJNodes and comfyui-segment-anything-2.
    "video_wan2_2_14B_animate": {
        "BlockifyMask", "DWPreprocessor", "DownloadAndLoadSAM2Model", "DrawMaskOnImage", "PixelPerfectResolution",
        "PointsEditor", "Sam2Segmentation",
    },
}  # fmt: skip
"""Installed templates that cannot be converted → the classes that they need and ComfyUI itself does not bring."""
KNOWN_INVALID = {
    INSTALLED: {
        # Both were saved when MoonvalleyVideo2VideoNode had no `steps` and a control behind its seed. Values have no
        # names in the file, so they land in the wrong widgets, on ComfyUI's own page as here.
        "api_moonvalley_video_to_video_motion_transfer": {"invalid_input_type"},
        "api_moonvalley_video_to_video_pose_control": {"value_bigger_than_max"},
    },
    NEWER: {
        # Saved with more outputs than the Tripo nodes of this ComfyUI have.
        "api_tripo3_0_text_to_model": {"exception_during_validation"},
        "api_tripo3_1_multiview_to_model": {"exception_during_validation"},
        "api_tripo_image_to_model": {"exception_during_validation"},
        "api_tripo_multiview_to_model": {"exception_during_validation"},
        "api_tripo_text_to_model": {"exception_during_validation"},
        # Saved with values of CLIPLoader's type that this ComfyUI does not offer yet.
        "image_kandinsky5_t2i": {"value_not_in_list"},
        "image_newbieimage_exp0_1-t2i": {"value_not_in_list"},
        "image_ovis_text_to_image": {"value_not_in_list"},
    },
}
"""Templates that ComfyUI refuses after the conversion → its errors besides those for missing files."""
KNOWN_STRICTER = {
    INSTALLED: set(),
    # Saved with choices that this ComfyUI's nodes do not offer. ComfyUI 0.3.75 does not hold a V3 node's choices
    # against its list, newer ones do; the preflight does.
    NEWER: {
        "api_bytedance_seedance1_5_flf2v",
        "api_bytedance_seedance1_5_image_to_video",
        "api_bytedance_seedance1_5_text_to_video",
        "api_wan2_6_i2v",
        "api_wan2_6_t2v",
        "image-qwen_image_edit_2511_lora_inflation",
        "template_character_portrait_relighting",
        "templates-photo_to_product_vid",
    },
}
"""Templates that the preflight refuses and ComfyUI does not."""


@dataclass
class Corpus:
    """All templates of a collection, what became of them, and what ComfyUI says."""

    name: str
    classes: NodeClasses
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
def judge(comfyui_install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """Start the real ComfyUI that is asked about both collections."""
    with open_judge(comfyui_install, tmp_path_factory.mktemp("judge"), os.environ) as judge:
        yield judge


@pytest.fixture(scope="module", params=[INSTALLED, NEWER])
def corpus(request: pytest.FixtureRequest, comfyui_install: Install, judge: Judge) -> Corpus:
    """Convert every template against the classes of the real ComfyUI, and ask it what it says of the results."""
    classes = NodeClasses(judge.object_info)
    corpus = Corpus(request.param, classes)
    with _searching_once():
        for path in _template_paths(request.param, comfyui_install):
            value = json.loads(path.read_text())
            if is_gui_format(value):
                corpus.listed[path.stem] = done = convert_what_can_be(value, classes)
                corpus.problems[path.stem] = check_workflow(done.graph, classes)
                corpus.needs[path.stem] = inspect_workflow(done.graph, classes)
    corpus.answers = judge.judge(corpus.converted)
    return corpus


@contextmanager
def _searching_once() -> Iterator[None]:
    """Have each search for a nearest spelling done once: hundreds of templates lack the same few classes."""
    found: dict[tuple[str, tuple[str, ...]], Nearest] = {}

    def nearest_known(word: str, candidates: Iterable[object]) -> Nearest:
        key = (word, tuple(str(candidate) for candidate in candidates))
        if key not in found:
            found[key] = nearest(*key)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        for user in ("comfyworker.workflow.gui.convert", "comfyworker.workflow._findings"):
            patch.setattr(f"{user}.nearest", nearest_known)
        yield


def _template_paths(name: str, install: Install) -> list[Path]:
    python = install.python if name == INSTALLED else Path(sys.executable)
    paths = sorted((python.parent.parent / "lib").glob(f"python*/site-packages/{TEMPLATES}"))
    assert paths, f"there are no templates beside {python}"
    return paths


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
    assert not [
        name for name, missing in reasons.items() if any(class_type in corpus.classes for class_type in missing)
    ]
    assert corpus.name == NEWER or reasons == KNOWN_REFUSED


def test_comfyui_takes_what_was_converted(corpus: Corpus) -> None:
    """ComfyUI's own validation finds nothing wrong but files that are not there."""
    errors = {name: found for name in corpus.converted if (found := corpus.errors(name))}
    assert errors == KNOWN_INVALID[corpus.name]


def test_our_preflight_says_the_same(corpus: Corpus) -> None:
    """What ComfyUI refuses the preflight refuses, missing files apart, and little else."""
    refused = {
        name
        for name in corpus.converted
        if any(problem.code not in FILES_ARE_MISSING for problem in corpus.problems[name])
    }
    assert refused == set(KNOWN_INVALID[corpus.name]) | KNOWN_STRICTER[corpus.name]


def test_models_are_those_of_the_metadata(corpus: Corpus) -> None:
    """Each model that an active node's metadata lists is found in what was converted, in part or whole."""
    missed = {
        (name, entry.name, entry.node_id)
        for name in corpus.listed
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


def _source(corpus: Corpus, name: str) -> Source:
    done = corpus.listed[name]
    return Source(done.graph, corpus.classes, done.listed_models, done.listed_packs, label=name)


def test_every_listed_model_is_in_the_config(corpus: Corpus) -> None:
    """What is proposed for each template is a valid config.yml, and has each URL that the metadata of its nodes has."""
    missed = []
    for name, done in corpus.listed.items():
        config = parse_config(render_proposal(propose_config(_source(corpus, name)), made_from=[name]))
        there = {(model.destination, model.url) for model in config.models}
        missed += [
            (name, entry)
            for entry in done.listed_models
            if entry.url is not None and (entry.folder, shared_url(entry.url)) not in there
        ]
    assert missed == []


def test_all_templates_are_one_config(corpus: Corpus) -> None:
    """Merged, nothing is there twice, and each file has one of its URLs."""
    proposal = merge_proposals([propose_config(_source(corpus, name)) for name in corpus.listed])
    config = parse_config(render_proposal(proposal, made_from=list(corpus.listed)))
    listed = {
        (entry.folder, shared_url(entry.url))
        for done in corpus.listed.values()
        for entry in done.listed_models
        if entry.url
    }
    told = {(model.destination, url) for model in proposal.models for url in (model.url, *model.other_urls)}
    assert listed - told == set()
    assert len(config.models) == len({model.place for model in proposal.models if model.is_whole})


def test_own_classes_need_no_pack(corpus: Corpus) -> None:
    """The list of ComfyUI's own classes has all that this ComfyUI brings."""
    assert [name for name in corpus.classes if name not in core_classes()] == []


def _figures(corpus: Corpus) -> str:
    entries = [entry for done in corpus.listed.values() for entry in done.listed_models]
    found = [model for needs in corpus.needs.values() for model in needs.models]
    missing = Counter(
        class_type
        for problems in corpus.refused.values()
        for class_type in {problem.class_type for problem in problems}
    )
    valid = [name for name in corpus.converted if not corpus.errors(name)]
    lines = [
        f"{corpus.name} templates: {len(corpus.listed)}, with subgraphs: {_with_subgraphs(corpus)}",
        f"converted: {len(corpus.converted)}, refused: {len(corpus.refused)} for {len(missing)} missing classes",
        f"valid for ComfyUI but for missing files: {len(valid)}",
        f"models found: {len(found)}, listed in the metadata of active nodes: {len(entries)}",
    ]
    return "\n".join(lines)


def _with_subgraphs(corpus: Corpus) -> int:
    return sum(any(":" in node_id for node_id in done.graph) for done in corpus.listed.values())
