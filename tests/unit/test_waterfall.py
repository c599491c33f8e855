"""Phases drawn as bars."""

from comfyworker.waterfall import draw_waterfall


def test_bars_stand_on_one_scale() -> None:
    """What overlaps in time stands above each other."""
    drawn = draw_waterfall([("process", 0.0, 1.0), ("comfyui", 1.0, 4.0), ("sdk", 1.0, 2.0)], width=8)
    assert drawn.splitlines() == [
        "  process │██      │    0.000 →    1.000 s",
        "  comfyui │  ██████│    1.000 →    4.000 s",
        "  sdk     │  ██    │    1.000 →    2.000 s",
    ]


def test_a_moment_is_a_bar_too() -> None:
    """A phase that took no time to speak of is seen, also at the very end."""
    drawn = draw_waterfall([("long", 0.0, 100.0), ("first", 0.0, 0.0), ("last", 100.0, 100.0)], width=4)
    assert [line.partition("│")[2].partition("│")[0] for line in drawn.splitlines()] == ["████", "█   ", "   █"]


def test_nothing_is_drawn_of_nothing() -> None:
    """No bars are no lines."""
    assert draw_waterfall([]) == ""
