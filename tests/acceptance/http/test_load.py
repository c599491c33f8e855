"""Many clients at once: nothing is lost, nothing runs twice, memory stays bounded, and /health is always answered."""

from collections import Counter
from pathlib import Path

import pytest

from support.load import CLIENTS, JOBS, play
from support.real_comfyui import RealComfyUI
from support.serving import Serving, serving, session

MEMORY_MARGIN_BYTES = 100_000_000


async def samples(server: Serving, name: str) -> dict[str, float]:
    """Return what the server has counted under `name`, by labels."""
    async with session(server) as client, client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    found = [line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(name + "{")]
    return {labels: float(value) for labels, _, value in found}


async def test_fifty_clients_submit_five_hundred_jobs_at_once(
    comfyui: RealComfyUI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each job ends once and well, and memory grows by a bound; how quick /health is, `make bench` tells."""
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir), "LOG_LEVEL": "warning"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server:
        load = await play(server)
        ended = await samples(server, "comfyworker_jobs_ended_total")
        asked = await samples(server, "comfyworker_http_request_seconds_count")
    statuses = Counter(f"{outcome.status} {outcome.picture_count}" for outcome in load.outcomes)
    with capsys.disabled():
        print(
            f"\nload: {JOBS} jobs by {CLIENTS} clients: {dict(statuses)}; memory +{load.grown_bytes / 1e6:.0f} MB; "
            f"/health answered {len(load.health_s)} times meanwhile"
        )
    assert len({outcome.job_id for outcome in load.outcomes}) == JOBS
    assert statuses == {"COMPLETED 1": JOBS}
    assert ended == {'{api="runpod",code="",status="succeeded"}': JOBS}
    assert load.grown_bytes < MEMORY_MARGIN_BYTES
    assert asked['{method="GET",route="/health",status="200"}'] == len(load.health_s) > 0
