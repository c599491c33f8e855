"""The worker's life on RunPod: ComfyUI first, then the SDK, its loop in the main thread, the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import structlog

from comfyworker.errors import InvalidSettings, WorkerError, broken
from comfyworker.hosts.runpod.crossing import Crossing
from comfyworker.hosts.runpod.desk import Desk
from comfyworker.hosts.runpod.engine import Engine
from comfyworker.hosts.runpod.forks import guard_forks
from comfyworker.hosts.runpod.gate import MOST_ASIDE, MOST_EXTRA, MOST_LEAVING, Gate
from comfyworker.hosts.runpod.sdk import Sdk, check_installed
from comfyworker.hosts.runpod.speech import Speech
from comfyworker.hosts.runpod.stopping import Stopping, ended_by_signals
from comfyworker.hosts.startup import SDK, Startup
from comfyworker.settings import Settings, process_environment

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECRET_NAMES: Final = ("RUNPOD_AI_API_KEY", "RUNPOD_API_KEY")


def run(settings: Settings, *, startup: Startup, cwd: Path | None = None) -> int:
    """Run RunPod's jobs until the platform ends the worker; return the process's exit code.

    It must be called in the main thread, and forks of the process end with it from then on.

    Args:
        settings: The worker's settings.
        startup: Is told of the start's phases.
        cwd: Where relative places are looked for; None is the current folder.

    Raises:
        InvalidSettings: this is not RunPod, the SDK is missing, or a setting does not fit what it leads to.
        ComfyUIUnavailable: there is no ComfyUI, or none that runs; RunPod starts another worker.
    """
    _check_place(settings)
    startup.expect(SDK)
    environ = process_environment()
    speech = Speech(settings.runpod.log_level, secrets=tuple(environ.get(name, "") for name in _SECRET_NAMES))
    guard_forks(settings.log)
    with speech.listening(), ended_by_signals():
        life = _Life(settings, startup, cwd)
        try:
            life.run(speech)
        except WorkerError:
            raise
        except Exception:
            # The SDK's own hook for it would leave out what we cut from its messages.
            log.exception("runpod.broke")
            life.failure = broken()
        finally:
            life.engine.stop()
            log.info("runpod.stopped")
    if life.failure is not None:
        raise life.failure
    return 0


def _check_place(settings: Settings) -> None:
    if settings.runpod.job_take_url is None:
        raise InvalidSettings(
            "this is not RunPod Serverless: RUNPOD_WEBHOOK_GET_JOB is not set, which says where jobs are taken",
            hint="`comfyworker test` runs one job as RunPod would; `comfyworker serve` answers RunPod's routes on a "
            "server of your own.",
        )
    check_installed()


class _Life:
    """The parts of the worker, from its start to its end."""

    def __init__(self, settings: Settings, startup: Startup, cwd: Path | None) -> None:
        self.failure: WorkerError | None = None
        """Why no more jobs can be run; None if that is not why it ended."""
        self._settings = settings
        self._startup = startup
        self._crossing = Crossing()
        self._gate = Gate(takes_one=settings.runpod.refresh_worker)
        self._desk: Desk | None = None
        self.engine = Engine(
            settings,
            startup=startup,
            cwd=cwd,
            on_places=lambda places: self._crossing.call(self._open, places),
            on_broken=lambda error: self._crossing.call(self._break, error),
        )
        self._stopping = Stopping(self._gate, within_s=settings.http.drain_timeout_s, take_back=self.engine.take_back)
        self._is_attached = False

    def run(self, speech: Speech) -> None:
        """Run from the start to the end."""
        self.engine.start()
        self.engine.wait_open()
        with self._startup.phase(SDK):
            sdk = Sdk(self._settings.runpod, speech)
        self._desk = desk = Desk(
            self._settings,
            engine=self.engine,
            sdk=sdk,
            gate=self._gate,
            crossing=self._crossing,
            on_done=self._stopping.end_loop,
        )
        if sdk.has_seams:
            sdk.let_in(desk)
        else:
            log.warning("runpod.sdk_unknown", hint="this SDK's own loop runs: jobs are taken later than they could be")
        streams = self._settings.runpod.stream_outputs and sdk.has_seams
        config: dict[str, Any] = {  # Any: the SDK's
            "handler": desk.stream if streams else desk.handle,
            "concurrency_modifier": lambda _current: self._concurrency(has_seams=sdk.has_seams),
        }
        sdk.start(config)

    def _concurrency(self, *, has_seams: bool) -> int:
        """Return how many jobs the SDK may have; it asks in its loop, the first time before it takes any."""
        if not self._is_attached:
            self._is_attached = True
            self._crossing.attach()
            self._stopping.attach(ends_loop_now=not has_seams)
        usual = self.engine.places + 1
        # The SDK sleeps for a second when it is full, and counts a job twice as long as it waits for its handler; so
        # it is never full, and the gate says how many jobs there are. Always the same: a change would wait for the end
        # of every job.
        if has_seams:
            return 2 * (usual + MOST_EXTRA + MOST_LEAVING + MOST_ASIDE)
        return 1 if self._settings.runpod.refresh_worker else usual

    def _open(self, places: int) -> None:
        # While ComfyUI is started anew there are none: other workers can run the jobs sooner.
        self._gate.open(places)
        if places:
            log.info("runpod.taking_jobs", places=places)
        else:
            log.warning("runpod.waiting_for_comfyui", running=self._gate.running)

    def _break(self, error: WorkerError) -> None:
        self.failure = error
        log.error("runpod.broken", code=error.code, error=error.message, running=self._gate.running)
        if self._desk is not None:
            self._desk.recycles = True
        self._gate.close()
