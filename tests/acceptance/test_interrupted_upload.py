"""The command ended from outside while a job's files are on their way into a real object store."""

import asyncio
import signal
from pathlib import Path

import orjson
import pytest

from support import workflows
from support.command import environment, start, stop
from support.object_store import ObjectStore
from support.object_store_proxy import StoreProxy
from support.pipelines import files_in
from support.real_comfyui import RealComfyUI

LARGE_BYTES = 30_000_000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
async def test_nothing_half_delivered_stays(
    comfyui: RealComfyUI,
    object_store: ObjectStore,
    store_proxy: StoreProxy,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    """Not the file that had arrived, not the parts of the one in the middle, not what ComfyUI made."""
    bucket, before = await object_store.make_bucket(), files_in(comfyui.output_dir)
    behind = object_store.behind(store_proxy.url)
    held = store_proxy.hold("PUT", "*", query="partNumber=2&*")
    files = [{"filename": "small.bin", "size_bytes": 10}, {"filename": "large.bin", "size_bytes": LARGE_BYTES}]
    body = {"id": "interrupted", "input": {"workflow": workflows.outputs({"files": files})}}
    (tmp_path / "request.json").write_bytes(orjson.dumps(body))
    environ = environment(
        comfyui,
        BUCKET_ENDPOINT_URL=behind.endpoint_url,
        BUCKET_NAME=bucket,
        BUCKET_ACCESS_KEY_ID=object_store.access_key_id,
        BUCKET_SECRET_ACCESS_KEY=object_store.secret_access_key,
        BUCKET_REGION=object_store.region,
        STATE_DIR=str(tmp_path / "state"),
    )
    process = await start("handle", "request.json", environ=environ, cwd=tmp_path)
    async with asyncio.timeout(60):
        await held.met.wait()
    done = await stop(process, number)
    held.release()
    assert (done.code, done.out) == (code, ""), done.err
    assert "Traceback" not in done.err
    assert await object_store.keys_in(bucket) == []
    assert await object_store.open_uploads(bucket) == []
    assert files_in(comfyui.output_dir) == before
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []
