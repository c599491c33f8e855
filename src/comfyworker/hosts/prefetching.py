"""Models brought nearer beside a worker's jobs, if the settings ask for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from comfyworker.comfyui.extra_paths import list_extra_paths
from comfyworker.comfyui.model_places import find_model_places
from comfyworker.errors import InvalidSettings, Problem, WorkerError
from comfyworker.finishing import in_thread
from comfyworker.settings import Settings

if TYPE_CHECKING:  # see prefetching
    from comfyworker.prefetch.order import ModelFile, SearchOrder
    from comfyworker.prefetch.prefetch import Hints, ModelPrefetch
    from comfyworker.prefetch.recent import Named
    from comfyworker.provision.place import ProvisionPlace

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def prefetching(settings: Settings, *, cwd: Path) -> AsyncIterator[ModelPrefetch | None]:
    """Give what brings models nearer, at work until the context ends; None if PREFETCH_MODELS is off.

    It begins when the pool tells it of the ComfyUI that is started; beside a ComfyUI that runs already, at once.

    Raises:
        InvalidSettings: PREFETCH_MODELS asks for what cannot be done beside COMFY_API_URL.
    """
    if settings.volume.prefetch_mode == "off":
        yield None
        return
    check_reachable(settings)
    from comfyworker.prefetch.prefetch import ModelPrefetch  # noqa: PLC0415  # few workers prefetch

    prefetch = ModelPrefetch(settings.volume, _hints(settings, cwd), args=settings.comfyui.args)
    if settings.comfyui.api_urls:
        prefetch.begin_with(await in_thread(lambda: _order_beside(settings, cwd)))
    thread = threading.Thread(target=prefetch.work, name="prefetching models", daemon=True)
    thread.start()
    try:
        yield prefetch
    finally:
        prefetch.stop()
        await in_thread(thread.join)


def check_reachable(settings: Settings) -> None:
    """Refuse what cannot be done for a ComfyUI that others have started.

    Raises:
        InvalidSettings: it cannot be told of copies, or nothing says where its models lie.
    """
    if settings.volume.prefetch_mode == "off" or not settings.comfyui.api_urls:
        return
    if settings.volume.prefetch_mode == "copy":
        message = "COMFY_API_URL is set, and models shall be copied: a ComfyUI that runs already looks for no copies"
        hint = "Set PREFETCH_MODELS=readahead and unset LOCAL_MODEL_CACHE_GB, or have the worker start ComfyUI itself."
    elif settings.comfyui.base_dir is None:
        message = "PREFETCH_MODELS is set, and COMFY_API_URL too, but nothing says where that ComfyUI's models lie"
        hint = "Name its folder on this machine with COMFYUI_BASE_DIR, or unset PREFETCH_MODELS."
    else:
        return
    problem = Problem(message=message, path="PREFETCH_MODELS", code="conflicting_settings")
    raise InvalidSettings(message, hint=hint, problems=[problem])


def _order_beside(settings: Settings, cwd: Path) -> SearchOrder:
    """Return where a ComfyUI is likely to look whose files lie below COMFYUI_BASE_DIR."""
    from comfyworker.prefetch.order import order_of_folders  # noqa: PLC0415  # as above

    own_models = (cwd / (settings.comfyui.base_dir or cwd).expanduser()).absolute() / "models"
    places = find_model_places(settings.volume, cwd=cwd, own_models=own_models)
    volumes = [tree.path for place in places for tree in place.trees]
    return order_of_folders(own_models, list_extra_paths(places, own_models=own_models), volumes)


def _hints(settings: Settings, cwd: Path) -> Hints:
    from comfyworker.prefetch.prefetch import Hints  # noqa: PLC0415  # as above
    from comfyworker.prefetch.recent import RecentModels  # noqa: PLC0415  # as above

    place = _Place(settings, cwd)
    return Hints(
        recent=RecentModels(place.note_folders),
        of_config=place.models_of_config,
        sha256_of=place.noted_sha256,
    )


class _Place:
    """What is noted where models lie; looked up when it is first asked for, since that takes a moment."""

    def __init__(self, settings: Settings, cwd: Path) -> None:
        self._settings = settings
        self._cwd = cwd
        self._found: ProvisionPlace | None = None

    def note_folders(self) -> tuple[Path, ...]:
        """Return where uses of models are noted: beside the models, so that the next worker finds it, else here."""
        place = self._place()
        own = self._cwd / self._settings.state.path
        return (own,) if place is None else (place.models_state, own)

    def models_of_config(self) -> tuple[Named, ...]:
        """Return the models of the config.yml that applies; none if there is none, or none that can be read."""
        from comfyworker.provision.config.finding import find_config  # noqa: PLC0415  # reads YAML
        from comfyworker.provision.entries import likely_name  # noqa: PLC0415  # as above
        from comfyworker.provision.records import read_models  # noqa: PLC0415  # as above

        place = self._place()
        if place is None:
            return ()
        try:
            found = find_config(self._settings.provision, volume=place.volume, cwd=self._cwd)
        except (WorkerError, OSError) as error:  # provisioning tells it, where that is wanted
            log.debug("prefetch.config_left_out", reason=_reason(error))
            return ()
        state = read_models(place.models_state)
        named = []
        for entry in found.config.models if found is not None else ():
            record = state.find(entry)
            name = record.receipt.filename if record is not None else entry.filename or likely_name(entry.url)
            if name:
                named.append((entry.destination, name))
        return tuple(named)

    def noted_sha256(self, file: ModelFile) -> str | None:
        """Return the SHA-256 that a file had when the worker fetched it, if it has not been changed since."""
        from comfyworker.provision.records import read_models  # noqa: PLC0415  # as above

        place = self._place()
        if place is None or place.models is None or not file.path.is_relative_to(place.models):
            return None
        record = read_models(place.models_state).models.get(file.path.relative_to(place.models).as_posix())
        is_same = record is not None and record.receipt.describes(file.path)
        return record.receipt.sha256 if record is not None and is_same else None

    def _place(self) -> ProvisionPlace | None:
        from comfyworker.provision.place import find_place  # noqa: PLC0415  # as above

        if self._found is None:
            try:
                self._found = find_place(self._settings.comfyui, self._settings.volume, cwd=self._cwd)
            except (WorkerError, OSError) as error:
                log.debug("prefetch.place_not_found", reason=_reason(error))
        return self._found


def _reason(error: WorkerError | OSError) -> str | None:
    return error.message if isinstance(error, WorkerError) else error.strerror
