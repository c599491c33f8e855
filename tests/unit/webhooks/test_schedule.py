"""When a message is sent again."""

import pytest

from comfyworker.webhooks.schedule import pause_after, read_retry_after

NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT


def test_pauses_grow_up_to_five_minutes() -> None:
    """Seconds at first, minutes later, and never the same twice."""
    about = [2, 5, 15, 30, 60, 120, 300, 300, 300]
    for attempts, middle in enumerate(about, start=1):
        pauses = [pause_after(attempts) for _ in range(50)]
        assert middle * 0.8 <= min(pauses) < max(pauses) <= middle * 1.2
    assert pause_after(10_000) >= 240


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("Sun, 09 Sep 2001 01:48:40 GMT", 120),
        ("Sunday, 09-Sep-01 01:48:40 GMT", 120),
        ("Sun Sep  9 01:48:40 2001", 120),
        ("Sun, 09 Sep 2001 01:40:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    """As seconds or as a date, in the past too; what is neither counts for nothing."""
    assert read_retry_after(text, now=NOW) == seconds
