"""What there is to say about the places where models lie beside ComfyUI's own folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from comfyworker.comfyui.finding import Finding, Level, format_bytes
from comfyworker.comfyui.model_places import ModelPlace, Origin, find_model_places
from comfyworker.comfyui.model_sources import ADVICE
from comfyworker.comfyui.model_survey import PlaceSurvey, survey_place
from comfyworker.settings import VolumeSettings

_MOST_DOUBTS = 10


def survey_places(settings: VolumeSettings, *, cwd: Path, own_models: Path | None) -> tuple[PlaceSurvey, ...]:
    """Look through every place that a ComfyUI would be told of; blocks as long as their disks take."""
    return tuple(survey_place(place) for place in find_model_places(settings, cwd=cwd, own_models=own_models))


def volume_findings(survey: PlaceSurvey) -> list[Finding]:
    """Say what lies in a place, and what is wrong there; nothing of a network volume that nobody has mounted."""
    place = survey.place
    if place.problem is not None:
        is_expected = place.origin is Origin.NETWORK_VOLUME and not place.root.exists()
        return [] if is_expected else [_problem_finding(place)]
    findings = [_contents_finding(survey)] if place.trees else []
    for doubt in survey.doubts[:_MOST_DOUBTS]:
        text = f"{doubt.path} {doubt.text}."
        findings.append(Finding(area="volume", level=Level.WARNING, text=text, advice=doubt.advice))
    if len(survey.doubts) > _MOST_DOUBTS:
        text = f"{len(survey.doubts) - _MOST_DOUBTS} more files or folders in {place.root} are not as they should be."
        advice = "NETWORK_VOLUME_DEBUG=true has the worker name up to 50 of them at its start."
        findings.append(Finding(area="volume", level=Level.WARNING, text=text, advice=advice))
    return findings


def _problem_finding(place: ModelPlace) -> Finding:
    return Finding(
        area="volume",
        level=Level.WARNING,
        text=f"{place.root} ({place.origin}) is not used: {place.problem}.",
        advice=ADVICE[place.origin],
        facts={"path": str(place.root), "origin": place.origin, "problem": place.problem},
    )


def _contents_finding(survey: PlaceSurvey) -> Finding:
    place = survey.place
    where = f"{place.root} ({place.origin}{', mounted' if place.is_mounted else ''})"
    trees = ", ".join(str(tree.path) for tree in place.trees)
    facts: dict[str, JsonValue] = {
        "path": str(place.root),
        "origin": place.origin,
        "is_mounted": place.is_mounted,
        "models_in": [str(tree.path) for tree in place.trees],
        "folders": [folder.model_dump(mode="json") for folder in survey.folders],
        "is_complete": survey.is_complete,
    }
    if not survey.files:
        text = f"There are no model files in {trees}, on {where}."
        advice = f"Put models into a folder for their kind, as {place.trees[0].path / 'checkpoints'}."
        return Finding(area="volume", level=Level.WARNING, text=text, advice=advice, facts=facts)
    kinds: dict[str, tuple[int, int]] = {}
    for folder in survey.folders:
        files, size_bytes = kinds.get(folder.kind, (0, 0))
        kinds[folder.kind] = (files + folder.files, size_bytes + folder.size_bytes)
    parts = [f"{kind} {files} ({format_bytes(size)})" for kind, (files, size) in kinds.items() if files]
    more = "" if survey.is_complete else " and more"
    count = "1 model file" if survey.files == 1 else f"{survey.files} model files"
    text = f"{count}{more}, {format_bytes(survey.size_bytes)}, on {where}: {', '.join(parts)}."
    return Finding(area="volume", level=Level.OK, text=text, facts=facts)
