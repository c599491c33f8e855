"""Workload is in the units of the ComfyUI PyWorker: 46 seconds are 400."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.hosts.vast.workload import DEFAULT_WORKLOAD, workload_of, workload_of_cost

ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@pytest.mark.parametrize(("seconds", "workload"), [(46.0, 400.0), (23, 200.0), ("11.5", 100.0), (0.23, 2.0)])
def test_seconds_become_workload(seconds: object, workload: float) -> None:
    """The seed's formula: expected_time / 23 * 200."""
    assert workload_of(seconds) == pytest.approx(workload)


@pytest.mark.parametrize("senseless", [None, 0, -1, float("nan"), float("inf"), True, "soon", [], {}, "1e999", 10**400])
def test_what_is_no_time_counts_as_usual(senseless: object) -> None:
    """A wrong estimate neither fails a request nor spoils the sums."""
    assert workload_of(senseless) == DEFAULT_WORKLOAD == 400.0


@given(ANYTHING)
def test_a_workload_is_always_a_figure_to_add_up(value: object) -> None:
    """Whatever comes: finite, not negative, and no more than a day's."""
    assert 0 <= workload_of(value) <= workload_of(86_400)
    assert 0 <= workload_of_cost(value) <= workload_of(86_400)


@pytest.mark.parametrize(
    ("cost", "workload"), [(242, 242.0), ("242.5", 242.5), (None, 100.0), ("much", 100.0), (0, 100.0)]
)
def test_a_session_costs_what_the_router_counted(cost: object, workload: float) -> None:
    """What is no number counts as the client's usual 100."""
    assert workload_of_cost(cost) == workload
