"""What the worker tells Vast is what Vast's own worker tells of the same traffic; differences are meant, and named."""

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from support import workflows
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import serving
from support.vast_platform import Signer, VastPlatform
from support.vast_sdk import VastClient, reference_worker, vast_client
from support.vast_worker import make_instance_certificate, vast_worker

SYNC = "/generate/sync"
BENCHMARK = workflows.colour((1, 2, 3))
MARKER = 1 / 1024
"""The workload of jobs that belong to no scene; all others have whole numbers."""
MARKER_TIME_S = 23 / 200 * MARKER
LONG_TIME_S = 23 * 3600.0


Told = dict[str, dict[str, Any]]
"""What a platform was told of each scene, by the scene's name."""


def payload(workflow: object, *, expected_time: float = 23.0) -> dict[str, Any]:
    """Return a job; 23 seconds are a workload of 200."""
    return {"input": {"workflow_json": workflow}, "expected_time": expected_time}


@dataclass
class Stage:
    """A worker, its platform and its clients."""

    platform: VastPlatform
    client: VastClient
    http: aiohttp.ClientSession
    """A client without the SDK, for what that would not send."""
    folder: Path
    loses_nothing: bool
    """Whether all that happens is reported: not with Vast's own worker."""
    answers: list[Any] = field(default_factory=list)
    """What the scene's clients were answered."""
    markers: list[int] = field(default_factory=list)
    """The small jobs by which it is seen how far the reports are."""

    def gate(self) -> Path:
        """Return a file that is not there yet, for jobs to wait for."""
        return self.folder / uuid.uuid4().hex

    async def ask(self, workflow: object, **more: Any) -> None:
        """Send a job by Vast's client, and note how it was answered."""
        came = await self.client.call("request", route=SYNC, payload=payload(workflow), **more)
        self.answers.append(came["status"])

    async def post(self, auth: Mapping[str, Any], asked: object, path: str = SYNC) -> None:
        """Send a request without the SDK, and note how it was answered."""
        body = {"auth_data": auth, "session_id": None, "payload": asked}
        async with self.http.post(path, json=body) as answer:
            self.answers.append(answer.status)

    async def until_working(self, count: int = 1) -> dict[str, Any]:
        """Return the next report that tells of so many requests at work, when it is there."""
        since = len(self.platform.statuses)
        return await self.platform.until_status(lambda status: status["num_requests_working"] == count, since=since)


async def served(stage: Stage) -> None:
    """A job is done."""
    await stage.ask(workflows.colour((10, 20, 30)), cost=200)


async def failed(stage: Stage) -> None:
    """A node raises."""
    await stage.ask(workflows.failing(), cost=200)


async def senseless(stage: Stage) -> None:
    """The job is no job."""
    await stage.ask({}, cost=200)


async def incomplete(stage: Stage) -> None:
    """The auth_data lacks a field."""
    auth = stage.platform.route()
    del auth["reqnum"]
    await stage.post(auth, payload(workflows.colour((1, 1, 1))))


async def forged(stage: Stage) -> None:
    """Somebody else has signed."""
    auth = stage.platform.route()
    await stage.post(
        Signer().auth_data(auth["url"], reqnum=auth["reqnum"], request_idx=auth["request_idx"]),
        payload(workflows.noise()),
    )


async def replayed(stage: Stage) -> None:
    """The same request comes twice."""
    auth, asked = stage.platform.route(), payload(workflows.colour((2, 2, 2)))
    await stage.post(auth, asked)
    await stage.post(auth, asked)


async def busy(stage: Stage) -> None:
    """One job would keep the next waiting for hours: that is turned away, and the client is told so."""
    gate = stage.gate()
    long = payload(workflows.wait(until_file=gate), expected_time=LONG_TIME_S)
    _, first = stage.client.begin("request", route=SYNC, payload=long)
    status = await stage.until_working()
    stage.answers.append((status["cur_load"], len(status["working_request_idxs"])))
    await stage.ask(workflows.colour((3, 3, 3)), retry=False)
    gate.touch()
    stage.answers.append((await first)["returned"]["status"])


async def canceled(stage: Stage) -> None:
    """The client goes before its job is done."""
    gate = stage.gate()
    call_id, given_up = stage.client.begin("request", route=SYNC, payload=payload(workflows.wait(until_file=gate)))
    await stage.until_working()
    count = len(stage.platform.deletes)
    await stage.client.call("cancel", of=call_id)
    stage.answers.append((await given_up)["raised"][0])
    await stage.platform.until_deleted(count + 1)
    gate.touch()


async def in_session(stage: Stage) -> None:
    """A session is opened, works, and is ended; while it is open there is room for no other."""
    opened = await stage.client.call("open_session", cost=100, lifetime=60.0)
    status = await stage.until_working()
    stage.answers.append((status["cur_load"], len(status["working_request_idxs"])))
    await stage.post(stage.platform.route(), {"lifetime": 60.0}, "/session/create")
    asked = payload(workflows.colour((4, 4, 4)))
    came = await stage.client.call("session_request", number=opened["number"], route=SYNC, payload=asked)
    stage.answers += [came["status"], await stage.client.call("is_open", number=opened["number"])]
    await stage.client.call("close_session", number=opened["number"])


class Scene(Protocol):
    """Something that happens to a worker."""

    __name__: str

    async def __call__(self, stage: Stage) -> None:
        """Let it happen."""


SCENES: tuple[Scene, ...] = (
    served,
    failed,
    senseless,
    incomplete,
    forged,
    replayed,
    busy,
    canceled,
    in_session,
)

MEANT = {
    # A failed job is not reported as served. The SDK's worker counts whatever the model server answers as a success.
    ("failed", "cur_perf"): (200.0, 0.0),
    ("failed", "deletes"): ([("Success", True, "ran")], [("Error", False, "ran")]),
    ("senseless", "cur_perf"): (200.0, 0.0),
    ("senseless", "deletes"): ([("Success", True, "ran")], [("Error", False, "never ran")]),
    # What nobody has signed is not reported: whoever made it up could end another's request by its request_idx.
    ("forged", "rej_load"): (200.0, 0.0),
    ("forged", "deletes"): ([("Rejected", False, "never ran, nor ended")], []),
    # A reqnum is good for one answer; the SDK's worker looks at signatures only, which are all the same.
    ("replayed", "answers"): ([200, 200], [200, 401]),
    ("replayed", "new_load"): (400.0, 200.0),
    ("replayed", "cur_perf"): (400.0, 200.0),
    ("replayed", "deletes"): ([("Success", True, "ran")] * 2, [("Success", True, "ran")]),
    # A session that is turned away never began; the SDK's worker says it did.
    ("in_session", "deletes"): (
        [("Rejected", False, "did not end"), ("Success", True, "ran")],
        [("Rejected", False, "never ran, nor ended"), ("Success", True, "ran")],
    ),
}
"""Scene and figure → what Vast's worker reports, and what ours does."""


async def play(stage: Stage, scene: Scene) -> dict[str, Any]:
    """Play a scene; return what its clients were answered and what the platform was told of it.

    Nothing of an earlier scene may be untold.
    """
    statuses, deletes = len(stage.platform.statuses), len(stage.platform.deletes)
    stage.answers = []
    await scene(stage)
    answers = stage.answers
    await _settle(stage)
    return {"answers": answers, **_told(stage, statuses, deletes)}


async def play_until(stage: Stage, scene: Scene, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Play a scene on Vast's own worker, up to four times until it tells what is `wanted`; return what it told last.

    It loses the figures of what happens while a report is on its way, so a single time proves nothing.
    """
    told = await play(stage, scene)
    for _ in range(3):
        if told == wanted:
            break
        told = await play(stage, scene)
    return told


async def _settle(stage: Stage) -> None:
    """Have one more small job done, and wait until that is reported: so is all that was before it."""
    auth = stage.platform.route()
    stage.markers.append(auth["request_idx"])
    stage.answers = []
    await stage.post(auth, payload(workflows.colour((5, 5, 5)), expected_time=MARKER_TIME_S))
    assert stage.answers == [200]
    answered_at, platform = time.monotonic(), stage.platform

    def is_told() -> bool:
        if not any(told["request_idx"] == auth["request_idx"] for told in platform.deletes):
            return False
        if not stage.loses_nothing:
            return platform.taken("/worker_status/")[-1].at > answered_at
        total = sum(status["cur_perf"] for status in platform.statuses)
        return bool(round(total / MARKER) % round(1 / MARKER) == len(stage.markers))

    await eventually(is_told, within_s=30)


def _told(stage: Stage, statuses: int, deletes: int) -> dict[str, Any]:
    """Return the figures of the reports since the `statuses`th, without those of the small jobs."""
    reports = stage.platform.statuses[statuses:]
    sums = {name: sum(report[name] for report in reports) for name in ("new_load", "cur_perf", "rej_load")}
    return {
        **{name: float(math.floor(total)) for name, total in sums.items()},
        "working": [reports[-1][name] for name in ("num_requests_working", "cur_load", "working_request_idxs")],
        "deletes": [
            _ended(told) for told in stage.platform.deletes[deletes:] if told["request_idx"] not in stage.markers
        ],
    }


def _ended(told: Mapping[str, Any]) -> tuple[str, bool, str]:
    """Return an ended request's status, and which of its times are there; they are in order."""
    assert set(told) == {
        "request_idx",
        "success",
        "status",
        "entered_queue_at",
        "work_started_at",
        "work_completed_at",
    }
    given = [told[name] for name in ("entered_queue_at", "work_started_at", "work_completed_at") if told[name]]
    assert given == sorted(given)
    assert all(abs(at - time.time()) < 600 for at in given)
    times = {(True, True): "ran", (False, True): "never ran", (True, False): "did not end"}
    started, completed = bool(told["work_started_at"]), bool(told["work_completed_at"])
    return told["status"], told["success"], times.get((started, completed), "never ran, nor ended")


def kinds(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what sort of JSON value stands under each key of a report."""
    words = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
    return {key: words[type(value)] for key, value in report.items()}


async def test_the_same_traffic_is_reported_alike(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Nine scenes, played on our worker and on Vast's own (before `comfyworker serve`), both on a real ComfyUI."""
    certificate = make_instance_certificate(tmp_path).file
    async with (
        VastPlatform(root_certificate=certificate) as theirs,
        VastPlatform(root_certificate=certificate) as ours,
        in_background(_play_ours(comfyui, ours, tmp_path)) as playing,  # while Vast's worker starts
        serving(comfyui.url, tmp_path / "serve") as server,
        reference_worker(theirs, server.url, tmp_path, benchmark=BENCHMARK),
        on_stage(theirs, _folder(tmp_path / "theirs"), loses_nothing=False) as stage,
    ):
        told = await playing
        for scene in SCENES:
            name = scene.__name__
            wanted = {figure: MEANT.get((name, figure), (value, value))[0] for figure, value in told[name].items()}
            assert told[name] == {
                figure: MEANT.get((name, figure), (value, value))[1] for figure, value in told[name].items()
            }
            assert await play_until(stage, scene, wanted) == wanted, name
    assert {str(kinds(status)) for status in ours.statuses} == {str(kinds(theirs.statuses[-1]))}
    _judge_the_rest(theirs.statuses[-1], ours.statuses[-1])


async def _play_ours(comfyui: RealComfyUI, ours: VastPlatform, folder: Path) -> Told:
    """Return what our worker tells of each scene, by the scene's name."""
    environ = {"BENCHMARK_RUNS": "1", "MAX_SESSIONS": "1", "MAX_QUEUE_TIME_S": "1"}
    async with vast_worker(comfyui.url, folder / "vast", ours, environ=environ, benchmark=BENCHMARK):
        await eventually(ours.is_ready, within_s=60)
        async with on_stage(ours, _folder(folder / "ours"), loses_nothing=True) as stage:
            told = {scene.__name__: await play(stage, scene) for scene in SCENES}
        # All that /route/ gave away was received, but for the two that were not signed, or not wholly.
        await _until_received(ours, lambda routed: routed - 2)
        return told


@contextlib.asynccontextmanager
async def in_background(work: Coroutine[Any, Any, Told]) -> AsyncIterator[asyncio.Task[Told]]:
    """Have something done meanwhile; what fails there or here is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group.create_task(work, name="our worker's scenes")
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None  # A test that fails shows its own words.


async def _until_received(platform: VastPlatform, count_of: Callable[[int], int]) -> None:
    def is_right() -> bool:
        received, wanted = platform.statuses[-1]["num_requests_recieved"], count_of(platform.routed)
        assert received == wanted, (received, wanted)
        return True

    await eventually(is_right, within_s=30)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextlib.asynccontextmanager
async def on_stage(platform: VastPlatform, folder: Path, *, loses_nothing: bool) -> AsyncIterator[Stage]:
    """Bring the worker that reports to `platform` and its clients on stage."""
    url = platform.statuses[-1]["url"]
    async with vast_client(platform, folder) as client, aiohttp.ClientSession(url) as http:
        stage = Stage(platform, client, http, folder, loses_nothing)
        await _settle(stage)
        yield stage


def _judge_the_rest(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """What does not come from the traffic: names, times and sizes."""
    for name in ("id", "mtoken", "version", "error_msg", "cur_capacity", "max_capacity"):
        assert ours[name] == theirs[name]
    for name in ("loadtime", "max_perf", "disk_usage"):
        assert min(ours[name], theirs[name]) > 0
    assert 0.5 < ours["disk_usage"] / theirs["disk_usage"] < 2  # The same disk in the same unit.
