"""Models brought nearer before ComfyUI loads them, by one thread beside the jobs; no job waits for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.model_kinds import kind_of_folder
from comfyworker.comfyui.model_places import ModelPlace
from comfyworker.errors import InvalidSettings, Problem
from comfyworker.finishing import in_thread
from comfyworker.jobs import Graph
from comfyworker.prefetch.bringing import Bringing
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.figures import Figures, Nearness
from comfyworker.prefetch.order import ModelFile, SearchOrder, order_of
from comfyworker.prefetch.recent import Named, RecentModels
from comfyworker.prefetch.warmth import Warmth
from comfyworker.prefetch.wishes import Rank, Wishes
from comfyworker.settings import VolumeSettings
from comfyworker.workflow.needs import inspect_workflow

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SWEEP_EVERY_S: Final = 30.0


@dataclass(frozen=True)
class Hints:
    """What is known of models beside the jobs; each blocks."""

    recent: RecentModels
    of_config: Callable[[], Sequence[Named]]
    """Kind and name of the models that the config.yml asks for."""
    sha256_of: Callable[[ModelFile], str | None]
    """What was noted of a file's content when it was fetched; None if nothing was."""


class ModelPrefetch:
    """Reads models ahead, or copies them: those of jobs that run or wait, of the last jobs, of the config.yml."""

    def __init__(
        self,
        settings: VolumeSettings,
        hints: Hints,
        *,
        args: Sequence[str] = (),
        copies: LocalCopies | None = None,
        warmth: Warmth | None = None,
    ) -> None:
        """Prepare; nothing is done before it is told where ComfyUI looks for models, and `work` runs.

        Args:
            settings: PREFETCH_MODELS and the bounds of copies.
            hints: Which models are wanted beside those of jobs.
            args: COMFYUI_ARGS.
            copies: Where copies are kept; None is where the settings say, if they ask for copies.
            warmth: What counts the memory; None looks at this machine's.
        """
        self.figures = Figures()
        self._args = args
        self._hints = hints
        self._wishes = Wishes()
        self._jobs: Counter[Named] = Counter()
        self._in_use: frozenset[Named] = frozenset()
        """What `_jobs` counts, for the other thread."""
        self._used: frozenset[Named] = frozenset()
        self._has_order = threading.Event()
        self._order: SearchOrder | None = None
        self.copies = copies
        if copies is None and settings.prefetch_mode == "copy":
            self.copies = LocalCopies(settings.local_cache_path, most_bytes=settings.local_cache_bytes)
        if self.copies is not None:
            self.copies.on_evicted = self.figures.evicted
        self._warmth = warmth or Warmth()
        self._bringing = Bringing(
            self._wishes, self._warmth, self.figures, sha256_of=hints.sha256_of, in_use=lambda: self._in_use
        )

    def begin(
        self, installation: Installation, places: Sequence[ModelPlace], paths: Mapping[str, Sequence[Path]]
    ) -> Mapping[str, Path]:
        """Hear of a ComfyUI that is about to be started; return the folders that it shall search first, by kind.

        Blocks for a moment: copies of models that are others now do not outlast this.

        Args:
            installation: The ComfyUI.
            places: Where models lie on volumes.
            paths: What it is told of these: folders by kind.

        Raises:
            InvalidSettings: copies would lie on a volume that they shall spare.
        """
        volumes = [tree.path for place in places for tree in place.trees]
        order = order_of(installation, self._args, paths, volumes)
        folders: Mapping[str, Path] = {}
        if self.copies is not None:
            check_apart(self.copies.root, [place.root for place in places if place.problem is None])
            try:
                folders = self.copies.open(order)
            except OSError as error:
                log.warning(
                    "prefetch.copies_given_up",
                    reason=error.strerror,
                    advice="Name a folder on a local disk that the worker may write with LOCAL_MODEL_CACHE_DIR.",
                )
                self.copies = None
        self.begin_with(order)
        return folders

    def begin_with(self, order: SearchOrder) -> None:
        """Hear where ComfyUI looks for models."""
        self._bringing.copies, self._order = self.copies, order
        log.info("prefetch.begun", copies=self.copies is not None, kinds=len(order.folders))
        self._has_order.set()

    @contextlib.asynccontextmanager
    async def wanted(self, graph: Graph, *, is_early: bool = False) -> AsyncIterator[None]:
        """Have the models of a job brought nearer while it waits and runs; what is not near yet is read as it lies.

        Args:
            graph: The job's workflow.
            is_early: Whether the job will want them again when its workflow is put together, and count them then.
        """
        order = self._order
        if order is None:
            yield
            return
        files = await in_thread(lambda: list(self._find(order, graph, counts=not is_early)))
        names = [(file.kind, file.name) for file in files]
        self._jobs.update(names)
        self._in_use = frozenset(+self._jobs)
        self._used = frozenset(names) if not is_early else self._used
        for file in files:
            self._wishes.add(file, Rank.JOB)
        self._wishes.wake()
        try:
            yield
        finally:
            self._jobs.subtract(names)
            self._in_use = frozenset(+self._jobs)
            for file in files:
                self._wishes.let_go(file, keeps=self.copies is not None)

    def work(self) -> None:
        """Bring models nearer until `stop`; blocks, for a thread of its own."""
        self._has_order.wait()
        try:
            if self._order is not None:
                self._look_ahead(self._order)
            self._work()
        except Exception:
            # Jobs go on without it.
            log.exception("prefetch.broke")
        finally:
            self._bringing.close()

    def stop(self) -> None:
        """Have `work` end soon; what is not whole is dropped."""
        self._wishes.end()
        self._has_order.set()

    def _work(self) -> None:
        swept_at = time.monotonic()
        while not self._wishes.is_ended:
            if self._used:
                self._hints.recent.note(self._used)
                self._used = frozenset()
            wish = self._wishes.next(_SWEEP_EVERY_S)
            if wish is not None:
                self._bringing.advance(wish)
            if self.copies is not None and time.monotonic() - swept_at > _SWEEP_EVERY_S:
                self.copies.sweep()
                swept_at = time.monotonic()

    def _find(self, order: SearchOrder, graph: Graph, *, counts: bool) -> Iterator[ModelFile]:
        """Yield the files of a job's models, and count how near they are; a copy of another file is let go."""
        for need in inspect_workflow(graph).models:
            if need.is_folder:
                continue
            try:
                file = _find_named(order, need.folder, need.name)
                if file is not None:
                    nearness = self._nearness(file)
                    if counts:
                        self.figures.use(nearness)
                    yield file
            except OSError as error:
                log.debug("prefetch.model_not_looked_at", model=need.name, reason=error.strerror)

    def _nearness(self, file: ModelFile) -> Nearness:
        if self.copies is not None and self.copies.has(file):
            self.copies.touch(file)
            return Nearness.COPY
        return Nearness.MEMORY if self._warmth.has(file) else Nearness.DISK

    def _look_ahead(self, order: SearchOrder) -> None:
        """Want what jobs are likely to need."""
        wanted = [(Rank.RECENT, named) for named in self._hints.recent.read()]
        wanted += [(Rank.CONFIG, named) for named in self._hints.of_config()]
        for rank, (kind, name) in wanted:
            if self._wishes.is_ended:
                return
            with contextlib.suppress(OSError):
                file = _find_named(order, kind, name)
                if file is not None:
                    self._wishes.add(file, rank)


def check_apart(folder: Path, volumes: Sequence[Path]) -> None:
    """Refuse a folder for copies that lies on a volume.

    Raises:
        InvalidSettings: it does.
    """
    for volume in volumes:
        if folder.resolve().is_relative_to(volume.resolve()):
            message = "LOCAL_MODEL_CACHE_DIR lies on the volume that models would be copied from"
            raise InvalidSettings(
                message,
                hint="Name a folder on the machine's own disk, or unset PREFETCH_MODELS.",
                problems=[Problem(message=message, path="LOCAL_MODEL_CACHE_DIR", code="copies_on_volume")],
            )


def _find_named(order: SearchOrder, folder: str | None, name: str) -> ModelFile | None:
    """Return the file that a workflow or a config means; the folder may be one below a kind's, and is not known to all.

    Raises:
        OSError: a folder cannot be read now.
    """
    if folder is None:
        return order.find_anywhere(name)
    first, *rest = PurePosixPath(folder).parts or ("",)
    kind = first if first in order.folders else kind_of_folder(first) or first
    found = order.find(kind, str(PurePosixPath(*rest, name))) if rest else None
    return found or order.find(kind, name)
