"""A folder of this machine, in the place of a bucket."""

import json
import subprocess
import sys
from pathlib import Path

from comfyworker.delivery.store import StoreDelivery, Stores, probe
from comfyworker.settings import StoreSettings
from support.store_files import located, written

CODE = """
import asyncio, json, sys
from pathlib import Path
from comfyworker.delivery.store import StoreDelivery, Stores
from comfyworker.errors import InsufficientStorage
from comfyworker.settings import StoreSettings
from support.artifacts import file_artifact
from support.store_files import located

async def main() -> None:
    disk = Path(sys.argv[1])
    settings = StoreSettings(endpoint_url=disk.as_uri())
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        try:
            await delivery.deliver([file_artifact(Path(path)) for path in sys.argv[2:]])
        except InsufficientStorage as error:
            print(json.dumps([error.message, sorted(str(path) for path in disk.rglob("*"))]))

asyncio.run(main())
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """It is a fault of the machine, not of one file: the job hears of it, and nothing of the job stays there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    files = [written(tmp_path / name, size_bytes) for name, size_bytes in (("a.png", 5_000), ("b.png", 200_000))]
    # A file system of 64 kB of its own, in a namespace of its own: no root needed where users may make these.
    script = f'mount -t tmpfs -o size=64k tmpfs {disk} && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    command = [*wrapper, sys.executable, "-c", CODE, str(disk), *(str(file.path) for file in files)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(Path("tests").resolve())}
    )
    # The log is on stdout, too, where nothing configures it.
    [answer] = [line for line in done.stdout.splitlines() if line.startswith("[")]
    message, left = json.loads(answer)
    assert message == "the disk is full: b.png could not be saved in the folder for outputs"
    assert left == []


async def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file in its place is told, without a path; the probe says the same."""
    (tmp_path / "taken").write_text("a file")
    settings = StoreSettings(endpoint_url=(tmp_path / "taken").as_uri())
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        [answer] = await delivery.deliver([written(tmp_path / "a.png", 10)])
        steps = await probe(stores, located(settings))
    assert answer.failure is not None
    assert answer.failure.message == (
        "a.png could not be stored in the folder 'taken': the folder cannot be written: Not a directory"
    )
    assert "BUCKET_ENDPOINT_URL" in (answer.failure.hint or "")
    assert [(step.name, step.is_ok) for step in steps] == [("connect", True), ("write", False)]


async def test_what_is_there_is_replaced_whole(tmp_path: Path) -> None:
    """As in a bucket, a job of the same id takes the place of its objects; no draft stays beside them."""
    settings = StoreSettings(endpoint_url=(tmp_path / "out").as_uri())
    async with Stores(settings) as stores:
        for size_bytes in (20, 10):
            delivery = StoreDelivery(stores, located(settings), request_id="job")
            [answer] = await delivery.deliver([written(tmp_path / "a.png", size_bytes)])
    assert answer.url == (tmp_path / "out/job/a.png").as_uri()
    assert [path.stat().st_size for path in (tmp_path / "out/job").iterdir()] == [10]
