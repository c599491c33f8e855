"""Keeps a ComfyUI alive: started by us and started again when it dies, or running elsewhere and waited for."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.instance import ComfyUIInstance, is_answering, keep_connected, wait_back
from comfyworker.comfyui.launching import plan_launch
from comfyworker.comfyui.locate import Installation, refresh_comfyui
from comfyworker.comfyui.process import ComfyUIProcess
from comfyworker.comfyui.renewal import Renewal
from comfyworker.comfyui.slots import claim_slot, folders_from_args, reserve_port
from comfyworker.comfyui.succession import Succession
from comfyworker.errors import ComfyUIUnavailable, ComfyUIUnreachable
from comfyworker.settings import ComfyUISettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_DELAY_S = 1.0
_HEALTHY_AFTER_S = 60.0
_ASKS = 10  # of a ComfyUI that is silent, before it counts as hung
_TOLERATED_CRASHES = 3  # starts in a row that may fail before waiting jobs are told


class StartOptions(BaseModel):
    """What is decided for each ComfyUI that is started; see `plan_launch`."""

    model_config = ConfigDict(frozen=True)

    port: int
    gpu: str | None
    use_cpu: bool
    grace_s: float
    """Seconds that it gets to end by itself when it is stopped."""
    extra_paths: Path | None = None
    """File with more model folders, given to each ComfyUI (its `--extra-model-paths-config`)."""


async def supervise(instance: ComfyUIInstance, installation: Installation, options: StartOptions) -> None:
    """Start a ComfyUI and start it again whenever it dies, until cancelled; then it is stopped.

    The pauses before a restart double from 1 s to COMFYUI_RESTART_MAX_DELAY_S, and begin anew once it has lived for a
    minute. Jobs that are on it when it dies are told at once; jobs that wait for it are told when it never came up,
    or failed three times in a row. When its custom nodes, or its own version, have changed, it is started anew at once
    after its last job.
    """
    loop = asyncio.get_running_loop()
    crashes, has_been_ready = 0, False
    with claim_slot(installation.base_dir) as slot, reserve_port(options.port) as port:
        while True:
            begun_at = loop.time()
            installation = await asyncio.to_thread(refresh_comfyui, installation)
            plan = plan_launch(
                installation,
                instance.settings,
                port=port,
                slot=slot,
                gpu=options.gpu,
                use_cpu=options.use_cpu,
                extra_paths=options.extra_paths,
            )
            instance.folders = plan.folders
            renewal = await Renewal.begin(installation.base_dir)
            process = ComfyUIProcess(
                plan.command, name=instance.name, environment=plan.environment, cwd=plan.cwd, grace_s=options.grace_s
            )
            async with process:
                instance.set_launched()
                failure = await _run_once(instance, process, renewal, plan.url)
            has_been_ready = has_been_ready or failure is None
            if renewal.is_done:
                crashes = 0
                continue
            crashes = 1 if loop.time() - begun_at > _HEALTHY_AFTER_S else crashes + 1
            error = failure or process.crash(f"ComfyUI ended unexpectedly ({process.describe_end()})")
            is_hopeless = not has_been_ready or crashes >= _TOLERATED_CRASHES
            instance.set_gone(error if is_hopeless else None)
            instance.abort(error)
            delay_s = restart_delay_s(crashes, instance.settings.restart_max_delay_s)
            log.error("comfyui.crashed", instance=instance.name, ended=process.describe_end(), restart_in_s=delay_s)
            await asyncio.sleep(delay_s)


def restart_delay_s(crashes: int, longest_s: float) -> float:
    """Return the pause before a ComfyUI is started again that has died `crashes` times in a row."""
    doublings = min(crashes - 1, 30)  # a crash loop of hours would leave the range of a float
    return min(_FIRST_DELAY_S * 2.0**doublings, longest_s)


async def _run_once(
    instance: ComfyUIInstance, process: ComfyUIProcess, renewal: Renewal, url: str
) -> ComfyUIUnavailable | None:
    """Let one process take jobs until it ends; return why it never came up, or None if it did."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(process.wait(), name=f"end of {instance.name}")
        answer = group.create_task(_answers(instance, url), name=f"start of {instance.name}")
        await asyncio.wait({watcher, answer}, return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            answer.cancel()
            return process.crash(f"ComfyUI ended while it started ({process.describe_end()})")
        unanswered = answer.result()
        if unanswered is not None:
            await process.stop()
            return ComfyUIUnreachable(
                unanswered.message, hint=unanswered.hint, details={"log": list(process.last_lines)}
            )
        log.info("comfyui.ready", instance=instance.name, start_s=round(loop.time() - begun_at, 2))
        watchdogs = (
            group.create_task(_kill_hung(instance, process), name=f"watchdog of {instance.name}"),
            group.create_task(_kill_broken(instance, process), name=f"watch over the GPU of {instance.name}"),
            group.create_task(renewal.watch(instance, process), name=f"watch over the nodes of {instance.name}"),
        )
        async with keep_connected(instance):
            await watcher
        for watchdog in watchdogs:
            watchdog.cancel()
    return None


async def _kill_hung(instance: ComfyUIInstance, process: ComfyUIProcess) -> None:
    """Kill a ComfyUI that lives but has long been silent; how long is COMFYUI_HANG_TIMEOUT_S."""
    limit_s = instance.settings.hang_timeout_s
    if limit_s == 0:
        return
    await wait_silent(instance, limit_s)
    log.error("comfyui.hung", instance=instance.name, silent_s=limit_s)
    await process.kill(f"had not answered for {limit_s:g} s")


async def _kill_broken(instance: ComfyUIInstance, process: ComfyUIProcess) -> None:
    """Kill a ComfyUI that lives but can use its GPU no more: every job on it would fail."""
    await instance.wait_broken()
    await process.kill("could not use its GPU any more")


async def wait_silent(instance: ComfyUIInstance, limit_s: float) -> None:
    """Wait until nothing has come from ComfyUI for `limit_s`, though it was asked again and again."""
    heard_at, unanswered = instance.heard_at, 0
    # Counted, not measured: after a pause in which this process too was stopped, the clock alone says nothing.
    while unanswered < _ASKS:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s / _ASKS):
                if unanswered > 0:
                    await is_answering(instance)
                # Silence is no event.
                await asyncio.sleep(limit_s / _ASKS)
        unanswered = unanswered + 1 if instance.heard_at == heard_at else 0
        heard_at = instance.heard_at


async def _answers(instance: ComfyUIInstance, url: str) -> ComfyUIUnreachable | None:
    await instance.attach(url)
    try:
        await instance.wait_answer(within_s=instance.settings.start_timeout_s)
    except ComfyUIUnreachable as error:
        return error
    return None


async def attend(instance: ComfyUIInstance, url: str, succession: Succession | None = None) -> None:
    """Use a ComfyUI that runs already, until cancelled; while it does not answer, waiting jobs are told so.

    Args:
        instance: The ComfyUI.
        url: Where it is.
        succession: What is to be done about the prompts of killed workers before it takes jobs; None is nothing.
    """
    succession = succession or Succession()
    await instance.attach(url)
    async with succession.on_record(instance):
        await succession.look(instance)
        await wait_back(instance)
        instance.folders = await shared_folders(instance, instance.settings)
        await succession.take_over(instance)
        log.info("comfyui.ready", instance=instance.name, shares_disk=instance.folders is not None)
        async with keep_connected(instance):
            while True:
                # It is not ours to start anew. When somebody does, its WebSocket breaks, and it is looked at again.
                instance.set_gone(await instance.wait_broken())


async def shared_folders(instance: ComfyUIInstance, settings: ComfyUISettings) -> Folders | None:
    """Return the folders of a ComfyUI that we did not start, if they lie on this disk.

    Believed only after ComfyUI has shown us a file that we put into its input folder.
    """
    base_dir = settings.base_dir or settings.path
    if base_dir is None or not base_dir.is_dir():
        return None
    folders = folders_from_args(base_dir.absolute(), settings.args)
    probe = folders.input / "comfyworker" / f".probe-{instance.socket.client_id}"
    content = probe.name.encode()
    try:
        await asyncio.to_thread(_write_probe, probe, content)
        seen = b"".join([chunk async for chunk in instance.client.view(probe.name, "comfyworker", "input")])
    except (OSError, ComfyUIUnreachable) as error:
        log.warning("comfyui.disk_not_shared", instance=instance.name, error_type=type(error).__name__)
        return None
    finally:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(probe.unlink, missing_ok=True)
    return folders if seen == content else None


def _write_probe(probe: Path, content: bytes) -> None:
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.write_bytes(content)
