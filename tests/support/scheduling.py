"""Which of pytest-xdist's workers runs which test, and which tests come first."""

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

PAGES = "tests/docs/test_pages.py"
_STAGES = ("tests/acceptance/", "tests/docs/", "tests/integration/")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps the tests of a file together, since they share servers; unit tests and pages of the docs go one by one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path != PAGES and path.startswith(_STAGES) else nodeid


def make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """Return the scheduler of a run."""
    assert log is None or isinstance(log, Producer)
    config.option.loadscopereorder = False  # the order of `slowest_first` is the better one
    return ByFile(config, log)


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests so that those come first that take longest; what is quick fills the gaps at the end."""
    items.sort(key=lambda item: _stage(item.nodeid))


def _stage(nodeid: str) -> int:
    path = PurePosixPath(nodeid.partition("::")[0])
    return next((index for index, start in enumerate(_STAGES) if path.is_relative_to(start)), len(_STAGES))
