"""What pytest keeps of its own start, for the fixtures."""

from collections.abc import Mapping

import pytest

ENVIRON = pytest.StashKey[Mapping[str, str]]()
"""The environment in which pytest was started."""
OWNER_PID = pytest.StashKey[int]()
"""The process that governs the run."""
