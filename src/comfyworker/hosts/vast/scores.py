"""What the benchmark gave, kept for the next start of the same worker.

A score holds for one workflow on one set of ComfyUIs: their versions and their devices are in its key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
from blake3 import blake3
from pydantic import JsonValue

from comfyworker.replacing import replace_file

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FORMAT = 1
_MOST = 50
_KEY_CHARS = 32


def score_key(body: Mapping[str, JsonValue], stats: Sequence[Mapping[str, Any]]) -> str:
    """Return what a score holds for.

    Args:
        body: The benchmark's request, as it is before anything is drawn for it.
        stats: What each ComfyUI says of itself (`/system_stats`).
    """
    machines = [
        {
            "comfyui": (one.get("system") or {}).get("comfyui_version"),
            "torch": (one.get("system") or {}).get("pytorch_version"),
            "devices": [device.get("name") for device in one.get("devices") or ()],
        }
        for one in stats
    ]
    parts = orjson.dumps({"machines": machines, "request": body}, option=orjson.OPT_SORT_KEYS)
    return blake3(parts).hexdigest()[:_KEY_CHARS]


class Scores:
    """The scores in one file; a file that cannot be read is as good as none. Its calls block for a moment."""

    def __init__(self, file: Path) -> None:
        """Keep them in `file`, whose folder is made when it is needed."""
        self._file = file

    def find(self, key: str) -> float | None:
        """Return the score for `key`, in workload a second; None where none is known."""
        score = self._read().get(key)
        is_one = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score) and score > 0
        return float(score) if is_one and score is not None else None

    def keep(self, key: str, score: float) -> None:
        """Keep a score; that it cannot be is logged, and costs the next start a benchmark."""
        kept = {name: value for name, value in self._read().items() if name != key}
        newest = dict([*kept.items(), (key, score)][-_MOST:])
        data = orjson.dumps({"format": _FORMAT, "scores": newest}, option=orjson.OPT_INDENT_2)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, data, mode=0o600)
        except OSError as error:
            log.warning("benchmark.not_kept", reason=error.strerror or type(error).__name__)

    def _read(self) -> dict[str, float]:
        try:
            content = orjson.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("benchmark.scores_unreadable", error_type=type(error).__name__)
            return {}
        scores = content.get("scores") if isinstance(content, dict) and content.get("format") == _FORMAT else None
        return scores if isinstance(scores, dict) else {}
