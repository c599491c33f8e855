"""The memory that an upload takes, whatever the size of the file."""

import asyncio
import json
import sys
from pathlib import Path

from support.object_store import ObjectStore
from support.source import REPOSITORY
from support.store_files import MEBIBYTE, store_settings

CODE = """
import asyncio, json, sys
from pathlib import Path
from comfyworker.delivery.store import StoreDelivery, Stores
from comfyworker.settings import StoreSettings
from support.store_files import file_artifact, located

def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

async def main() -> None:
    settings = StoreSettings.model_validate_json(sys.argv[1])
    async with Stores(settings) as stores:
        for name in ("small", "large"):
            Path("/proc/self/clear_refs").write_text("5")
            before = peak_bytes()
            delivery = StoreDelivery(stores, located(settings), request_id=name)
            [answer] = await delivery.deliver([file_artifact(Path(sys.argv[2], name))])
            print(json.dumps([answer.failure is None, peak_bytes() - before]))

asyncio.run(main())
"""


async def test_memory_stays_flat(object_store: ObjectStore, tmp_path: Path) -> None:
    """A file of many parts takes no more than the parts that are on their way: 24 MB as the settings are."""
    bucket = await object_store.make_bucket()
    for name, size_bytes in (("small", 1000), ("large", 160 * MEBIBYTE)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size_bytes)
    settings = store_settings(object_store, bucket, part_bytes=8 * MEBIBYTE)
    given = json.dumps(
        {
            name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
            for name, value in settings
            if value is not None
        }
    )
    command = [sys.executable, "-c", CODE, given, str(tmp_path)]
    environ = {"PYTHONPATH": str(REPOSITORY / "tests")}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environ)
    out, _ = await process.communicate()
    assert process.returncode == 0
    _, (has_arrived, added_bytes) = [json.loads(line) for line in out.splitlines() if line.startswith(b"[")]
    assert has_arrived
    assert added_bytes < 32 * MEBIBYTE
