"""What workflows need, gathered from what they name and from what their metadata says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from comfyworker.jobs import Graph
from comfyworker.provision.config import fields
from comfyworker.provision.config.destinations import WrongDestination, resolve_destination
from comfyworker.provision.config.document import Value
from comfyworker.provision.proposal.known_models import files_of, fill_in
from comfyworker.provision.proposal.packs import find_packs, merge_packs, newest_core
from comfyworker.provision.proposal.records import Proposal, ProposedModel
from comfyworker.wording import clip
from comfyworker.workflow.graph import class_of
from comfyworker.workflow.metadata import ListedModel, ListedPack, find_listed, plain_name
from comfyworker.workflow.needs import ModelNeed, inspect_workflow
from comfyworker.workflow.node_classes import NodeClasses

_MOST_LABELS = 4
_VERSION_KEYS = frozenset({"modelVersionId", "type", "format", "size", "fp"})
"""What Civitai's URLs say in their query."""


@dataclass(frozen=True)
class Source:
    """A workflow, and what is known of it."""

    graph: Graph
    classes: NodeClasses | None = None
    """What ComfyUI has; None if none was asked."""
    listed_models: tuple[ListedModel, ...] = ()
    listed_packs: tuple[ListedPack, ...] = ()
    label: str | None = None
    """What the workflow is called, where there are several."""


def propose_config(source: Source, *, only_missing: bool = False) -> Proposal:
    """Return what a config.yml must ask for so that a workflow runs.

    Args:
        source: The workflow.
        only_missing: Leave out what the ComfyUI that was asked has.
    """
    needs = inspect_workflow(source.graph, source.classes, listed_models=source.listed_models)
    models = [
        model for need in needs.models if not (only_missing and need.is_there) for model in _propose_files(need, source)
    ]
    wanted = [need.class_type for need in needs.classes if not (only_missing and need.is_there)]
    return Proposal(
        models=_merge_models([*models, *_unnamed(source, needs.models)]),
        packs=find_packs(wanted, source.listed_packs, source.classes),
        comfyui_version=newest_core(source.listed_packs),
    )


def _propose_files(need: ModelNeed, source: Source) -> tuple[ProposedModel, ...]:
    """Return the entries for what a workflow names: one, or those of a known folder's files."""
    model = propose_model(need, source.listed_models, _labels(source, need.node_ids))
    return (files_of(model) if need.is_folder else ()) or (fill_in(model),)


def merge_proposals(proposals: Sequence[Proposal]) -> Proposal:
    """Return several proposals as one, with nothing in it twice."""
    releases = tuple(
        ListedPack("", "comfy-core", None, one.comfyui_version) for one in proposals if one.comfyui_version
    )
    return Proposal(
        models=_merge_models([model for one in proposals for model in one.models]),
        packs=merge_packs(pack for one in proposals for pack in one.packs),
        comfyui_version=newest_core(releases),
    )


def propose_model(need: ModelNeed, listed: Iterable[ListedModel], labels: tuple[str, ...]) -> ProposedModel:
    """Return the entry for one model that a workflow names."""
    fitting = [entry for entry in listed if find_listed((entry,), need.name, need.folder) is not None]
    urls = [shared_url(url) for url in (need.url, *(entry.url for entry in fitting)) if url is not None]
    model = make_model(need.name, need.folder, urls, sha256=need.sha256, wanted_by=labels)
    if not need.is_folder:
        return model
    place = f"{model.destination or '???'}/{model.filename}"
    return model.model_copy(update={"fault": f"a folder: each of its files needs an entry with destination {place}"})


def make_model(
    name: str, folder: str | None, urls: Sequence[str], *, sha256: str | None, wanted_by: tuple[str, ...]
) -> ProposedModel:
    """Return the entry for a model file; its `fault` says what config.yml would not take in it.

    Args:
        name: As the workflow names it, folders below the kind's own included.
        folder: The kind's folder; None if that is not known.
        urls: Where it can be had, the best first.
        sha256: What its content must have.
        wanted_by: The nodes that name it, for people.
    """
    subfolder, _, filename = plain_name(name).rpartition("/")
    fault = None
    destination = None
    if folder is not None:
        # Names of some loaders repeat the last part of their folder, as `bbox/face.pt` does in `ultralytics/bbox`.
        within = subfolder if subfolder != folder.rpartition("/")[2] or "/" not in folder else ""
        try:
            destination = resolve_destination(f"{folder}/{within}" if within else folder)
        except WrongDestination as wrong:
            fault = f"'{clip(f'{folder}/{within}')}' {wrong}"
    found = fields.Findings("")
    if fields.filename(Value(filename, 0), "", found) is None or filename in (".", ".."):
        fault = f"'{clip(filename)}' is no file's name"
    good = [url for url in dict.fromkeys(urls) if fields.url(Value(url, 0), "", found) is not None and "://" in url]
    return ProposedModel(
        filename=filename,
        destination=destination,
        url=good[0] if good else None,
        sha256=sha256 if good else None,
        wanted_by=wanted_by,
        other_urls=tuple(good[1:]),
        fault=fault,
    )


def shared_url(url: str) -> str:
    """Return a URL without what the page of its host adds (`?download=true`): the same file, written one way."""
    return _with_query(url, lambda name: name != "download")


def shown_url(url: str) -> str:
    """Return a URL that may be told to anybody: of its query, only what says which version of a model is meant."""
    return _with_query(url, _VERSION_KEYS.__contains__)


def _with_query(url: str, keeps: Callable[[str], bool]) -> str:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if keeps(name)]
    # Written anew only if something goes: a signed URL holds as it is written.
    return url.strip() if kept == pairs else urlunsplit((*parts[:3], urlencode(kept), ""))


def label_node(graph: Graph, node_id: str) -> str:
    """Return how a person finds a node: by its id and class."""
    return f"node {clip(node_id)} ({clip(class_of(graph, node_id) or '?')})"


def _labels(source: Source, node_ids: tuple[str, ...]) -> tuple[str, ...]:
    prefix = f"{source.label}: " if source.label is not None else ""
    return tuple(f"{prefix}{label_node(source.graph, node_id)}" for node_id in node_ids)


def _unnamed(source: Source, needs: Sequence[ModelNeed]) -> Iterable[ProposedModel]:
    """Yield what the metadata lists and no input names: a node may load it by itself."""
    for entry in source.listed_models:
        if any(find_listed((entry,), need.name, need.folder) is not None for need in needs):
            continue
        labels = _labels(source, (entry.node_id,)) if entry.node_id else ()
        urls = [shared_url(entry.url)] if entry.url else []
        yield make_model(entry.name, entry.folder, urls, sha256=entry.sha256, wanted_by=labels)


def _merge_models(models: Iterable[ProposedModel]) -> tuple[ProposedModel, ...]:
    merged: dict[tuple[str | None, str], ProposedModel] = {}
    for model in models:
        known = merged.setdefault(model.place, model)
        if known is not model:
            merged[model.place] = _both(known, model)
    return tuple(merged.values())


def _both(first: ProposedModel, second: ProposedModel) -> ProposedModel:
    # What a workflow says itself goes before what is known by the name alone.
    best = min(first, second, key=lambda model: (model.url is None, model.known_by is not None))
    other = second if best is first else first
    urls = dict.fromkeys((*best.other_urls, *((other.url,) if other.url else ()), *other.other_urls))
    urls.pop(best.url or "", None)
    sha256 = best.sha256 or (other.sha256 if other.url == best.url else None)
    wanted_by = tuple(dict.fromkeys((*first.wanted_by, *second.wanted_by)))
    return best.model_copy(update={"other_urls": tuple(urls), "sha256": sha256, "wanted_by": wanted_by})


def told(labels: Sequence[str]) -> str:
    """Return nodes in one line, a few of them by name."""
    shown = ", ".join(labels[:_MOST_LABELS])
    return f"{shown} and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else shown
