"""Brings the models of volumes to a ComfyUI that is started, and tells what was found there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from comfyworker.comfyui.extra_paths import list_extra_paths, render_extra_paths, write_extra_paths
from comfyworker.comfyui.finding import format_bytes
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.model_places import ModelPlace, Origin, find_model_places
from comfyworker.comfyui.model_survey import PlaceSurvey, survey_place
from comfyworker.settings import VolumeSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MOST_DOUBTS = 50
ADVICE = {
    Origin.NETWORK_VOLUME: "Choose a network volume in the endpoint's settings; its models belong into models/<kind>.",
    Origin.MODELS_PATH: "Correct MODELS_PATH, or mount what shall be there.",
}
"""What to do where a place is of no use."""


class NearerModels(Protocol):
    """Who keeps some models nearer than they lie."""

    def begin(
        self, installation: Installation, places: Sequence[ModelPlace], paths: Mapping[str, Sequence[Path]]
    ) -> Mapping[str, Path]:
        """Return the folders that ComfyUI shall search first, by kind; called once, before it is started. May block.

        Args:
            installation: The ComfyUI.
            places: Where models lie on volumes.
            paths: What it is told of these: folders by kind.
        """


class ModelSources:
    """The places where models lie beside ComfyUI's own folder."""

    def __init__(
        self, settings: VolumeSettings, *, folder: Path, cwd: Path, nearer: NearerModels | None = None
    ) -> None:
        """Prepare.

        Args:
            settings: MODELS_PATH, and whether to report.
            folder: Where the file for ComfyUI is written; made when it is needed.
            cwd: Where relative places lie.
            nearer: Who keeps some models nearer; None is nobody.
        """
        self._settings = settings
        self._folder = cwd / folder
        self._cwd = cwd
        self._nearer = nearer
        self._places: tuple[ModelPlace, ...] = ()

    def prepare(self, installation: Installation) -> Path | None:
        """Find the places and write the file that `--extra-model-paths-config` shall name; None if there is nothing.

        Blocks; what cannot be read or written is logged, since a ComfyUI without a volume still runs other jobs.

        Raises:
            InvalidSettings: models cannot be kept nearer as the settings ask for it.
        """
        own_models = installation.base_dir / "models"
        self._places = find_model_places(
            self._settings, cwd=self._cwd, own_models=own_models, image_models=installation.image_models
        )
        for place in self._places:
            _log_place(place, is_wanted=self._settings.debug)
        try:
            paths = list_extra_paths(self._places, own_models=own_models)
            first = self._nearer.begin(installation, self._places, paths) if self._nearer is not None else None
            text = render_extra_paths(paths, first=first)
            return write_extra_paths(text, self._folder) if text else None
        except OSError as error:
            log.warning(
                "volume.left_out", reason=error.strerror, advice="Give the worker a STATE_DIR that it may write."
            )
            return None

    async def report(self) -> None:
        """Log which models lie where, if NETWORK_VOLUME_DEBUG asks for it; the looking is done in a thread."""
        if not self._settings.debug:
            return
        for place in self._places:
            if place.problem is None:
                _log_survey(await asyncio.to_thread(survey_place, place))
        log.info("volume.reported", places=len(self._places), advice="Unset NETWORK_VOLUME_DEBUG for a quiet start.")


def _log_place(place: ModelPlace, *, is_wanted: bool) -> None:
    """Say what became of a place; that there is no network volume only to those who want to know."""
    root = str(place.root)
    if place.problem is None:
        trees = [str(tree.path) for tree in place.trees]
        log.info("volume.found", place=root, origin=place.origin, mounted=place.is_mounted, models_in=trees)
    elif place.origin is Origin.MODELS_PATH or is_wanted:
        log.warning("volume.missed", place=root, origin=place.origin, reason=place.problem, advice=ADVICE[place.origin])


def _log_survey(survey: PlaceSurvey) -> None:
    root = str(survey.place.root)
    for folder in survey.folders:
        if folder.files:
            log.info(
                "volume.kind_counted",
                kind=folder.kind,
                folder=str(folder.path),
                files=folder.files,
                size=format_bytes(folder.size_bytes),
                names=list(folder.names),
            )
    for doubt in survey.doubts[:_MOST_DOUBTS]:
        log.warning("volume.file_doubted", path=doubt.path, reason=doubt.text, advice=doubt.advice)
    if not survey.is_complete:
        log.warning("volume.cut_short", place=root, reason="it holds more files than are looked at")
    empty = [folder.kind for folder in survey.folders if not folder.files]
    total = log.info if survey.files else log.warning
    total(
        "volume.counted",
        place=root,
        files=survey.files,
        size=format_bytes(survey.size_bytes),
        empty=empty,
        doubts=len(survey.doubts),
    )
