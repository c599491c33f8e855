"""What the tests of the job service share."""

from collections.abc import Iterator

import pytest

from comfyworker.service import disk as disk_module
from support.power import SlowDisk


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Return the disk, which takes as long as the test wants, and may fail."""
    disk = SlowDisk()
    monkeypatch.setattr(disk_module, "_sync", disk.sync)
    yield disk
    disk.goes_on.set()
