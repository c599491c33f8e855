"""What a refused workflow lacks, and the refusal with the lines for config.yml that would mend it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from comfyworker.errors import InvalidWorkflow, WorkerError
from comfyworker.jobs import Graph, JobRequest
from comfyworker.provision.proposal.gathering import label_node, propose_model, shown_url
from comfyworker.provision.proposal.known_models import fill_in
from comfyworker.provision.proposal.packs import core_classes, find_packs
from comfyworker.provision.proposal.records import Proposal, ProposedModel, ProposedPack
from comfyworker.provision.proposal.rendering import in_one_line, render_proposal
from comfyworker.wording import clip
from comfyworker.workflow.gui import convert_what_can_be
from comfyworker.workflow.metadata import (
    ListedModel,
    ListedPack,
    by_filename,
    find_listed,
    listed_in_graph,
    offered_models,
    plain_name,
)
from comfyworker.workflow.models import is_model_name
from comfyworker.workflow.needs import ModelNeed, find_folder
from comfyworker.workflow.node_classes import NodeClasses

MISSING_MODEL, MISSING_NODE = "missing_model", "missing_node"
_CODES = frozenset({MISSING_MODEL, MISSING_NODE})
_HINTED = 3
_MOST_LISTED = 200
_MODEL_HINT = "Add to config.yml below `models:`"
_NODE_HINT = "Add to config.yml below `nodes:`"


@dataclass(frozen=True)
class Missing:
    """What a workflow lacks on a ComfyUI."""

    models: tuple[ProposedModel, ...]
    packs: tuple[ProposedPack, ...] = ()
    core: tuple[str, ...] = ()
    """Classes that a newer ComfyUI brings."""
    is_all: bool = False
    """Whether models are all that is wrong."""
    sizes: Mapping[str, int] | None = None
    """What the request says of the files' sizes, in bytes by URL."""


def find_missing(error: WorkerError, request: JobRequest, graph: Graph, classes: NodeClasses | None) -> Missing | None:
    """Return what a refused workflow lacks; None if it was refused for other reasons only.

    Args:
        error: The refusal.
        request: The job; it may say where its models are.
        graph: The workflow that was checked; empty if it could not be put together.
        classes: What ComfyUI has, as far as it is known.
    """
    problems = [problem for problem in error.problems if problem.code in _CODES]
    if not isinstance(error, InvalidWorkflow) or not problems:
        return None
    listed, listed_packs = _read_metadata(request, graph, classes)
    listed_by_name = by_filename((*offered_models(request.models), *listed))
    models: dict[tuple[str | None, str], ProposedModel] = {}
    wanted: list[str] = []
    for problem in problems[:_MOST_LISTED]:
        if problem.code == MISSING_NODE:
            wanted += [problem.class_type] if problem.class_type else []
            continue
        node = graph.get(problem.node_id or "")
        name = node["inputs"].get(problem.input_name) if node is not None else None
        if node is None or not isinstance(name, str) or not is_model_name(name):
            continue
        listed = tuple(listed_by_name.get(plain_name(name).rpartition("/")[2], ()))
        folder = find_folder(node["class_type"], str(problem.input_name), name, listed)
        need = ModelNeed(name=name, folder=folder, node_ids=(str(problem.node_id),))
        labels = (label_node(graph, str(problem.node_id)),)
        model = fill_in(propose_model(_with_listed(need, listed), listed, labels))
        known = models.setdefault(model.place, model)
        if known is not model:
            both = dict.fromkeys((*known.wanted_by, *model.wanted_by))
            models[model.place] = known.model_copy(update={"wanted_by": tuple(both)})
    named = len(models) > 0 and all(problem.code == MISSING_MODEL for problem in error.problems)
    return Missing(
        models=tuple(models.values()),
        packs=find_packs(wanted, listed_packs, None),
        core=tuple(sorted(core_classes().intersection(wanted))),
        is_all=named and len(error.problems) <= _MOST_LISTED,
        sizes={offer.url: offer.size_bytes for offer in request.models if offer.size_bytes is not None},
    )


def explain_missing(
    error: WorkerError, missing: Missing, reasons: Mapping[tuple[str | None, str], str] | None = None
) -> WorkerError:
    """Return the refusal with what to add to config.yml.

    `details` gets `config_yml`, the lines as text; `missing_models` and `missing_nodes`, the same as lists.

    Args:
        error: The refusal; it is left as it was.
        missing: What the workflow lacks.
        reasons: Why a model was not fetched, by its place; None if that was no question.
    """
    reasons = reasons or {}
    missing = replace(missing, models=tuple(_without_secrets(model) for model in missing.models))
    details: dict[str, JsonValue] = dict(error.details)
    text = render_proposal(Proposal(models=missing.models, packs=missing.packs))
    if text:
        details["config_yml"] = text
    if missing.models:
        details["missing_models"] = [_model_details(model, reasons) for model in missing.models]
    if missing.packs:
        details["missing_nodes"] = [
            pack.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for pack in missing.packs
        ]
    hints = [error.hint or "", *_hints(missing, reasons)]
    return type(error)(
        error.message,
        hint=" ".join(filter(None, hints)),
        problems=error.problems,
        details=details,
        retryable=error.retryable,
    )


def _without_secrets(model: ProposedModel) -> ProposedModel:
    """Return the model with URLs that anybody may see: a modifier's workflow is the operator's own."""
    url = None if model.url is None else shown_url(model.url)
    return model.model_copy(update={"url": url, "other_urls": tuple(map(shown_url, model.other_urls[:_HINTED]))})


def _hints(missing: Missing, reasons: Mapping[tuple[str | None, str], str]) -> list[str]:
    hints = [_lines(_MODEL_HINT, missing.models), _lines(_NODE_HINT, missing.packs)]
    if missing.core:
        shown = ", ".join(clip(name) for name in missing.core[:_HINTED])
        hints.append(f"A newer ComfyUI brings {shown}.")
    told = dict.fromkeys(reasons[model.place] for model in missing.models if model.place in reasons)
    return [*hints, *list(told)[:_HINTED]]


def _lines(start: str, entries: Sequence[ProposedModel | ProposedPack]) -> str:
    if not entries:
        return ""
    lines = "; ".join(f"`{in_one_line(entry)}`" for entry in entries[:_HINTED])
    more = len(entries) - _HINTED
    return f"{start} {lines}{f'; and {more} more, see details.config_yml' if more > 0 else ''}."


def _model_details(model: ProposedModel, reasons: Mapping[tuple[str | None, str], str]) -> dict[str, JsonValue]:
    details: dict[str, JsonValue] = {
        "filename": model.filename,
        "destination": model.destination,
        "url": model.url,
        "wanted_by": list(model.wanted_by),
    }
    if model.sha256 is not None:
        details["sha256"] = model.sha256
    if model.place in reasons:
        details["not_fetched"] = reasons[model.place]
    return details


def _with_listed(need: ModelNeed, listed: Sequence[ListedModel]) -> ModelNeed:
    entry = find_listed(listed, need.name, need.folder)
    return need if entry is None else need.model_copy(update={"url": entry.url, "sha256": entry.sha256})


def _read_metadata(
    request: JobRequest, graph: Graph, classes: NodeClasses | None
) -> tuple[tuple[ListedModel, ...], tuple[ListedPack, ...]]:
    """Return what the workflow's own metadata says."""
    if request.gui_workflow is None:
        return listed_in_graph(graph), ()
    with contextlib.suppress(WorkerError):  # one that cannot be read says nothing
        done = convert_what_can_be(request.gui_workflow, classes or NodeClasses({}))
        return (*done.listed_models, *listed_in_graph(graph)), done.listed_packs
    return (), ()
