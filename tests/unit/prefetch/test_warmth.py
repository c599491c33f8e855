"""How much is read ahead into memory."""

from pathlib import Path

from comfyworker.prefetch.order import ModelFile
from comfyworker.prefetch.warmth import Warmth


def file(name: str, size_bytes: int) -> ModelFile:
    """Return a file that needs not be there."""
    path = Path("/volume") / name
    return ModelFile(kind="loras", name=name, path=path, size_bytes=size_bytes, mtime_ns=1, device=1)


def read(warmth: Warmth, model: ModelFile, *, displaces: bool = False) -> bool:
    """Read a file, if it may be."""
    is_admitted = warmth.admit(model, displaces=displaces)
    if is_admitted:
        warmth.keep(model)
    return is_admitted


def test_three_quarters_of_what_is_available() -> None:
    """What is likely to be wanted fills that, and no more."""
    warmth = Warmth(lambda: 1000)
    assert [read(warmth, file(name, 250)) for name in "abcd"] == [True, True, True, False]
    assert [warmth.has(file(name, 250)) for name in "abcd"] == [True, True, True, False]


def test_a_job_displaces_what_was_used_longest_ago() -> None:
    """`a` was asked for last, so `b` goes."""
    warmth = Warmth(lambda: 1000)
    for name in "abc":
        read(warmth, file(name, 250))
    warmth.has(file("a", 250))
    assert read(warmth, file("d", 250), displaces=True)
    assert [warmth.has(file(name, 250)) for name in "abcd"] == [True, False, True, True]


def test_what_never_fits_displaces_nothing() -> None:
    """A file that is larger than the memory is not read at all."""
    warmth = Warmth(lambda: 1000)
    read(warmth, file("a", 700))
    assert not read(warmth, file("b", 800), displaces=True)
    assert warmth.has(file("a", 700))


def test_memory_that_becomes_short_ends_a_reading() -> None:
    """It is asked for again with each window."""
    available = [1000]
    warmth = Warmth(lambda: available[0])
    assert warmth.admit(file("a", 700), displaces=True)
    available[0] = 500
    assert not warmth.admit(file("a", 700), displaces=True)


def test_half_a_file_is_not_in_memory() -> None:
    """Nor is one that changed since, or was counted out."""
    warmth = Warmth(lambda: 1000)
    warmth.admit(file("a", 100), displaces=False)
    assert not warmth.has(file("a", 100))
    warmth.keep(file("a", 100))
    assert warmth.has(file("a", 100))
    assert not warmth.has(file("a", 101))
    warmth.forget(file("a", 100))
    assert not warmth.has(file("a", 100))


def test_memory_that_nothing_tells_of_is_none() -> None:
    """Then nothing is read ahead."""
    assert not read(Warmth(lambda: None), file("a", 1), displaces=True)
