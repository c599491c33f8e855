"""Phases that overlap, drawn as bars for a person to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_WIDTH: Final = 40

Bar = tuple[str, float, float]
"""A name, and the seconds at which it begins and ends."""


def draw_waterfall(bars: Sequence[Bar], *, width: int = _WIDTH) -> str:
    """Return one line a bar, all on one scale that begins at 0: its name, the bar, its begin and its end in seconds.

    Args:
        bars: What to draw; a bar that is shorter than one character is drawn as one.
        width: Characters of the scale.
    """
    whole_s = max((end_s for _, _, end_s in bars), default=0.0) or 1.0
    longest = max((len(name) for name, _, _ in bars), default=0)
    lines = []
    for name, begin_s, end_s in bars:
        first = min(int(begin_s / whole_s * width), width - 1)
        last = max(math.ceil(end_s / whole_s * width), first + 1)
        drawn = (" " * first + "█" * (last - first)).ljust(width)
        lines.append(f"  {name:<{longest}} │{drawn}│ {begin_s:8.3f} → {end_s:8.3f} s")
    return "\n".join(lines)
