"""Whether the disk has room for a plan."""

import pytest

from comfyworker.errors import InsufficientStorage
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.plan import PlannedModel, Verdict, check_room


def planned(
    name: str, size: int | None, *, kept: int = 0, optional: bool = False, verdict: Verdict = Verdict.FETCH
) -> PlannedModel:
    """Return a model of a plan."""
    entry = ModelEntry(url=f"https://example.org/{name}", destination="vae", optional=optional)
    return PlannedModel(verdict=verdict, number=0, entry=entry, place=f"vae/{name}", size_bytes=size, kept_bytes=kept)


def test_what_is_there_or_is_linked_takes_no_room() -> None:
    """Only what is fetched counts, less what an interrupted download has left; an unknown size counts nothing."""
    models = [
        planned("a", 100, kept=40),
        planned("b", 1000, verdict=Verdict.PRESENT),
        planned("c", 1000, verdict=Verdict.LINK),
        planned("d", 1000, verdict=Verdict.ADOPT),
        planned("e", None),
    ]
    assert check_room(models, 60) == ()
    with pytest.raises(InsufficientStorage) as caught:
        check_room(models, 59)
    assert caught.value.details == {"wanted_bytes": 60, "free_bytes": 59}


def test_optional_models_get_what_the_required_ones_leave() -> None:
    """Those that do not fit are left out; they are no reason to refuse the rest."""
    large, small = planned("large", 50, optional=True), planned("small", 10, optional=True)
    assert check_room([large, planned("must", 80), small], 100) == (large,)
