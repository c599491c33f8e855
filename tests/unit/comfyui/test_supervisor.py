"""Pauses before a ComfyUI that died is started again."""

import pytest

from comfyworker.comfyui.supervisor import restart_delay_s


@pytest.mark.parametrize(
    ("crashes", "longest_s", "expected"),
    [
        (1, 30.0, 1.0),
        (2, 30.0, 2.0),
        (4, 30.0, 8.0),
        (6, 30.0, 30.0),
        (5000, 30.0, 30.0),
        (5000, 0.0, 0.0),
        (1, 0.5, 0.5),
    ],
)
def test_pauses_double_up_to_a_limit(crashes: int, longest_s: float, expected: float) -> None:
    """The pauses double from a second up to the limit, however often it has died."""
    assert restart_delay_s(crashes, longest_s) == expected
