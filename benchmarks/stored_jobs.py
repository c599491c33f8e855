"""What delivery to object storage adds to a warm job, and to ComfyUI's idle time between jobs."""

import statistics
import time
from dataclasses import replace

from benchmarks.bucket import BareUploads, Bucket
from benchmarks.ground import Ground
from benchmarks.idle_gaps import JOBS, compare_gaps, worker_gaps
from benchmarks.report import Row
from benchmarks.worker import Worker, worker_on
from support.object_store_proxy import StoreProxy
from support.proxy import ALWAYS
from support.workflows import noise

ROUNDS = 40
WARM_UPS = 2
FLOOR_FACTOR, FLOOR_EXTRA_MS = 1.5, 1.0
GAP_ROUNDS = 3
SLOW_BYTES_PER_S = 5_000
"""At which a picture of the jobs, 5 kB or so, takes a second: longer than ComfyUI needs for several jobs."""


async def measure_stored_jobs(ground: Ground) -> list[Row]:
    """Let a worker deliver to a bucket on this machine, then to one behind a slow line."""
    bucket = await ground.bucket()
    rows = []
    async with worker_on(ground.comfyui.url, ground.comfyui.base_dir, bucket.environ()) as worker:
        rows.append(await _added(ground, worker, bucket))
    async with StoreProxy(bucket.store.endpoint_url) as proxy:
        proxy.slow_body("PUT", "*", bytes_per_s=SLOW_BYTES_PER_S, times=ALWAYS)
        environ = bucket.environ(proxy.url)
        async with worker_on(ground.comfyui.url, ground.comfyui.base_dir, environ) as worker:
            rows += await _slow_gaps(ground, worker, bucket)
    return rows


async def _added(ground: Ground, worker: Worker, bucket: Bucket) -> Row:
    rounds, uploads = ground.rounds_or(ROUNDS), BareUploads(bucket, ground.session)
    ground.say(f"time added to a 512² picture that goes to object storage (rounds: {rounds})")
    floor_ms, ours_ms, put_ms, deliver_ms = [], [], [], []
    for number in range(-WARM_UPS, rounds):
        bare_ms, upload_ms = await _bare_job(ground, uploads)
        added_ms, delivery_ms = await _worker_job(ground, worker, bucket)
        if number >= 0:
            floor_ms.append(bare_ms + upload_ms)
            ours_ms.append(added_ms)
            put_ms.append(upload_ms)
            deliver_ms.append(delivery_ms)
    floor = statistics.median(floor_ms)
    return Row(
        name="stored.noise_512",
        what="time added to one 512² noise picture in object storage (floor: bare client and one PUT), p50",
        unit="ms",
        floor=floor,
        ours=statistics.median(ours_ms),
        budget=FLOOR_FACTOR * floor + FLOOR_EXTRA_MS,
        rule=f"{FLOOR_FACTOR:g} times the floor + {FLOOR_EXTRA_MS:g} ms",
        rounds=rounds,
        details={"put_p50_ms": statistics.median(put_ms), "deliver_p50_ms": statistics.median(deliver_ms)},
    )


async def _bare_job(ground: Ground, uploads: BareUploads) -> tuple[float, float]:
    """Return what a bare client adds without and by the upload."""
    graph = noise(512, 512)
    begun_at = time.perf_counter()
    finished = await ground.floor.run(graph)
    wall_ms = 1000 * (time.perf_counter() - begun_at)
    ground.check(finished.files, 1)
    upload_ms = 1000 * await uploads.put(finished.files[0])
    ground.floor.remove_files()
    execution = await ground.execution(finished.prompt_id)
    return wall_ms - execution.duration_ms, upload_ms


async def _worker_job(ground: Ground, worker: Worker, bucket: Bucket) -> tuple[float, float]:
    graph = noise(512, 512)
    begun_at = time.perf_counter()
    answer = await worker.run(graph)
    wall_ms = 1000 * (time.perf_counter() - begun_at)
    ground.check(await bucket.read(answer.pictures), 1)
    execution = await ground.execution(answer.prompt_id)
    return wall_ms - execution.duration_ms, 1000 * (answer.timings.deliver_s or 0.0)


async def _slow_gaps(ground: Ground, worker: Worker, bucket: Bucket) -> list[Row]:
    rounds = ground.rounds_or(GAP_ROUNDS)
    ground.say(f"idle time between {JOBS} waiting jobs, delivered to a slow bucket (rounds: {rounds})")
    delivered_s: list[float] = []

    async def measure() -> list[int]:
        answers, gaps = await worker_gaps(ground, worker)
        for answer in answers:
            ground.check(await bucket.read(answer.pictures), 1)
            delivered_s.append(answer.timings.deliver_s or 0.0)
        return gaps

    rows = await compare_gaps(ground, measure, rounds=rounds, name="stored.gaps", to=", to a slow bucket")
    details = {"deliver_p50_s": statistics.median(delivered_s)}
    return [replace(rows[0], details=details), rows[1]]
