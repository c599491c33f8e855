"""Workload: the figure by which Vast.ai's autoscaler weighs requests and workers."""

from __future__ import annotations

import math

_USUAL_TIME_S = 46.0
"""Seconds that a request takes on an RTX 4090 where it does not say; the README of the ComfyUI PyWorker."""
_LONGEST_TIME_S = 86_400.0
"""More is no estimate. One absurd figure would spoil the autoscaler's sums for all workers of the endpoint."""
_UNIT_TIME_S = 23.0
_UNIT_WORKLOAD = 200.0
_USUAL_COST = 100.0
"""What Vast's client says a request costs where its caller does not."""
DEFAULT_WORKLOAD = _USUAL_TIME_S / _UNIT_TIME_S * _UNIT_WORKLOAD
"""The workload of a request that does not say how long it takes, and of each run of the benchmark."""


def workload_of(expected_time: object) -> float:
    """Return the workload of a request that says to take `expected_time` seconds on an RTX 4090.

    46 seconds are 400. What is no number of seconds, or is missing, counts as 46: a wrong estimate fails no request.
    The cost in a request's auth_data is not looked at: the client sends 100 unless told otherwise, and the benchmark
    rates the worker in the other unit.
    """
    seconds = _positive(expected_time)
    return min(_USUAL_TIME_S if seconds is None else seconds, _LONGEST_TIME_S) / _UNIT_TIME_S * _UNIT_WORKLOAD


def workload_of_cost(cost: object) -> float:
    """Return the workload of a session: its cost, as Vast's router counts it; 100 where that is no number."""
    value = _positive(cost)
    return _USUAL_COST if value is None else min(value, workload_of(_LONGEST_TIME_S))


def _positive(value: object) -> float | None:
    """Return a finite number above zero, also where it came as text; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
