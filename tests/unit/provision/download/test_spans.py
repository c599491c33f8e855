"""Which parts of a file have come."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from comfyworker.provision.download._spans import Spans

stretches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))))


@given(stretches)
def test_they_are_a_set_of_positions(added: list[tuple[int, int]]) -> None:
    """Whatever is added in whatever order: stretches are in order, apart from each other, and hold what was added."""
    spans = Spans(added)
    positions = {position for start, end in added for position in range(start, end)}
    kept = list(spans)
    assert {position for start, end in kept for position in range(start, end)} == positions
    assert all(first[1] < second[0] for first, second in itertools.pairwise(kept))
    assert spans.total == len(positions)
    assert spans.prefix == next(position for position in range(62) if position not in positions)


@given(stretches, st.integers(1, 60))
def test_gaps_are_what_is_missing(added: list[tuple[int, int]], size: int) -> None:
    """Gaps and stretches together are the whole file, and share nothing."""
    spans = Spans((start, min(end, size)) for start, end in added)
    gaps = {position for start, end in spans.gaps(size) for position in range(start, end)}
    kept = {position for start, end in spans for position in range(start, end)}
    assert gaps | kept >= set(range(size))
    assert not gaps & kept


def test_forgetting() -> None:
    """Nothing is left."""
    spans = Spans([(0, 5)])
    spans.clear()
    assert (list(spans), spans.total, spans.prefix) == ([], 0, 0)
