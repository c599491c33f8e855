"""A reqnum is good for one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import TooBusy, Unauthorized
from comfyworker.hosts.vast.replay import Replays
from comfyworker.hosts.vast.signatures import AuthData, SignedForm, parse_auth

URL_ONLY, WHOLE, NONE = SignedForm.URL_ONLY, SignedForm.WHOLE, SignedForm.NONE


def auth(reqnum: int, request_idx: int = 1) -> AuthData:
    """Return auth_data with these numbers."""
    return parse_auth(
        {
            "cost": 100,
            "endpoint": "e",
            "reqnum": reqnum,
            "request_idx": request_idx,
            "signature": "",
            "url": "http://203.0.113.7:1",
        }
    )


def answer(replays: Replays, request: AuthData, form: SignedForm = URL_ONLY, *, answered: bool = True) -> None:
    """Let a request begin and end."""
    replays.begin(request, form)
    replays.end(request, form, answered=answered)


@pytest.mark.parametrize("form", [URL_ONLY, WHOLE])
def test_an_answered_request_is_refused(form: SignedForm) -> None:
    """The same auth_data is taken once."""
    replays = Replays()
    answer(replays, auth(7), form)
    with pytest.raises(Unauthorized, match="reqnum 7 of request 1 was used already"):
        replays.begin(auth(7), form)


@pytest.mark.parametrize("form", [URL_ONLY, WHOLE])
def test_a_request_that_got_no_answer_may_come_again(form: SignedForm) -> None:
    """After a 429, a 5xx or a cut connection the client tries again, perhaps under its number."""
    replays = Replays()
    answer(replays, auth(7), form, answered=False)
    answer(replays, auth(7), form)
    with pytest.raises(Unauthorized):
        replays.begin(auth(7), form)


def test_a_request_at_work_is_told_to_wait() -> None:
    """A client whose connection was cut may be back before we have noticed: a final refusal would be wrong."""
    replays = Replays()
    replays.begin(auth(7), URL_ONLY)
    with pytest.raises(TooBusy) as caught:
        replays.begin(auth(7), URL_ONLY)
    assert caught.value.retryable
    assert caught.value.details == {"retry_after_s": 1.0}


@given(st.permutations(range(20)))
def test_numbers_may_come_in_any_order(order: list[int]) -> None:
    """Clients work side by side."""
    replays = Replays()
    for number in order:
        answer(replays, auth(number), WHOLE)


def test_a_number_may_come_again_for_another_request() -> None:
    """A router that was started anew counts anew."""
    replays = Replays()
    answer(replays, auth(7, 1))
    answer(replays, auth(7, 2))


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 8))
def test_no_signed_number_is_ever_answered_twice(numbers: list[int], remembered: int) -> None:
    """Also those that are not remembered one by one any more."""
    replays = Replays(remembered)
    answered: list[int] = []
    for number in numbers:
        try:
            answer(replays, auth(number), WHOLE)
        except Unauthorized:
            continue
        answered.append(number)
    assert len(answered) == len(set(answered))


def test_a_number_that_is_not_signed_raises_no_floor() -> None:
    """Else one forged number would lock out all that come after."""
    replays = Replays(1)
    answer(replays, auth(10**9))
    answer(replays, auth(10**9 + 1))
    answer(replays, auth(1))
    answer(replays, auth(2), WHOLE)


def test_nothing_is_remembered_where_nothing_is_signed() -> None:
    """UNSECURED: a developer's client sends the same numbers each time."""
    replays = Replays()
    answer(replays, auth(0), NONE)
    answer(replays, auth(0), NONE)
