"""Which of pytest-xdist's workers runs which test."""

import functools
import zlib

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from support.source import REPOSITORY

PAGES = "tests/docs/test_pages.py"
_SHARED = "on the shared ComfyUI"
_ACCEPTANCE = "on the shared ComfyUI of the acceptance tests"


class OneForComfyUI(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps the files whose tests use a shared ComfyUI together; every other test stands for itself.

    xdist's own groups (`--dist loadgroup`) would do, but xdist 3.8 writes a test's group into its node id, which
    pytest 9.2 no longer takes from there.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path == PAGES:
            return _ACCEPTANCE if is_page_for_acceptance(nodeid) else _SHARED
        if not _uses_comfyui(path):
            return nodeid
        return _ACCEPTANCE if path.startswith("tests/acceptance/") else _SHARED


def is_page_for_acceptance(nodeid: str) -> bool:
    """Whether a page of the docs is followed on the ComfyUI of the acceptance tests: half of the pages are."""
    return zlib.crc32(nodeid.encode()) % 2 == 1


@functools.cache
def _uses_comfyui(path: str) -> bool:
    # The process that hands out the tests knows their names only; the fixture's type tells which files need it.
    return "comfyui: RealComfyUI" in (REPOSITORY / path).read_text(encoding="utf-8")


def make_scheduler(config: pytest.Config, log: object) -> OneForComfyUI:
    """Return the scheduler of a run."""
    assert log is None or isinstance(log, Producer)
    return OneForComfyUI(config, log)
