"""Pictures on a disk that is really full."""

import json
import subprocess
import sys
from pathlib import Path

from support.pictures import encoded, gradient

CODE = """
import asyncio, json, sys
from pathlib import Path
from comfyworker.delivery.pictures import PictureShaper, Shape
from comfyworker.errors import WorkerError
from comfyworker.jobs import PictureFormat
from support.pictures import artifact

async def main() -> None:
    shape = Shape(format=PictureFormat(sys.argv[3]) if sys.argv[3] else None, strip_metadata=True)
    try:
        await PictureShaper().shape([artifact(Path(sys.argv[1]))], shape, spool=Path(sys.argv[2]) / "spool")
    except WorkerError as error:
        left = sum(path.stat().st_size for path in Path(sys.argv[2]).rglob("*") if path.is_file())
        print(json.dumps([error.code, left]))

asyncio.run(main())
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """Converted or stripped, a picture that does not fit on the disk is its fault, and leaves nothing there."""
    source, disk = tmp_path / "a.png", tmp_path / "disk"
    source.write_bytes(encoded(gradient(640, 480).effect_spread(40), "PNG", exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))
    disk.mkdir()
    # A file system of 16 kB of its own, in a namespace of its own: no root needed where users may make these.
    script = f'mount -t tmpfs -o size=16k tmpfs {disk} && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    for wanted in ("jpeg", ""):
        command = [*wrapper, sys.executable, "-c", CODE, str(source), str(disk), wanted]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(Path("tests").resolve())}
        )
        assert json.loads(done.stdout) == ["insufficient_storage", 0]
