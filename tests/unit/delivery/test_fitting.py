"""Answers that the platform takes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.delivery.fitting import FittingDelivery, InlineFallback, WithinLimit, inline_bytes
from comfyworker.delivery.inline import InlineDelivery
from comfyworker.delivery.json_stream import iter_json
from comfyworker.delivery.telling import TellingDelivery
from comfyworker.dialects import DIALECT_NAMES, dialect_named
from comfyworker.errors import AnswerTooLarge
from comfyworker.jobs import Artifact, DeliveryFault, JobResult, JobStatus
from support.artifacts import artifact, file_artifact, text_artifact

INLINE = InlineDelivery()
DOWN = DeliveryFault(message="the store is down", may_pass=True)


class Elsewhere:
    """Brings every file to a URL but those that it is told to lose."""

    keeps_outputs = False

    def __init__(self, *lost: str) -> None:
        """Lose the files of these names."""
        self._lost = lost

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts with a URL, or with a failure."""
        return tuple(
            artifact.model_copy(update={"failure": DOWN} if artifact.name in self._lost else {"url": "https://b/k"})
            for artifact in artifacts
        )


def of_size(folder: Path, name: str, size_bytes: int) -> Artifact:
    """Return an artifact with a file of this size."""
    path = folder / name
    path.write_bytes(b"x" * size_bytes)
    return file_artifact(path)


async def test_what_fits_is_in_the_answer(tmp_path: Path) -> None:
    """Whether there is another way or not."""
    [delivered] = await FittingDelivery(100_000, inline=INLINE, otherwise=Elsewhere()).deliver(
        [of_size(tmp_path, "a.png", 3)]
    )
    assert (delivered.data, delivered.url) == ("eHh4", None)


async def test_what_does_not_fit_goes_another_way(tmp_path: Path) -> None:
    """All of it: an answer is of one kind."""
    artifacts = [of_size(tmp_path, "a.png", 90_000), of_size(tmp_path, "b.png", 3)]
    delivered = await FittingDelivery(100_000, inline=INLINE, otherwise=Elsewhere()).deliver(artifacts)
    assert [(each.data, each.url) for each in delivered] == [(None, "https://b/k")] * 2


async def test_without_another_way_the_answer_says_what_to_set(tmp_path: Path) -> None:
    """With how large it would be and how large it may be."""
    with pytest.raises(AnswerTooLarge) as caught:
        await FittingDelivery(10_000_000, inline=INLINE, otherwise=None).deliver(
            [of_size(tmp_path, "a.png", 9_000_000)]
        )
    assert caught.value.message == (
        "with its 1 artifacts the answer would have 12.0 MB, more than the 10.0 MB that it may have here"
    )
    assert "BUCKET_ENDPOINT_URL" in (caught.value.hint or "")
    assert caught.value.details == {"answer_bytes": 12_004_608, "limit_bytes": 10_000_000}


@given(
    sizes=st.lists(st.integers(0, 5000), max_size=5),
    text=st.text(max_size=3000),
    dialect=st.sampled_from(DIALECT_NAMES),
)
def test_no_answer_is_larger_than_was_reckoned(sizes: list[int], text: str, dialect: str) -> None:
    """In whatever dialect, with a text beside the files."""
    files = [artifact("ComfyUI_00001_.png", size_bytes=size, data="A" * (-(-size // 3) * 4)) for size in sizes]
    told = text_artifact(text, node_id="12")
    result = JobResult(id="j", status=JobStatus.SUCCEEDED, artifacts=(*files, told), prompt_id="p" * 36)
    answer = b"".join(iter_json(dialect_named(dialect).render(result)))
    assert len(answer) <= inline_bytes((*files, told))


async def test_texts_are_always_in_the_answer_and_may_be_too_much(tmp_path: Path) -> None:
    """Also where files go elsewhere; nothing is brought then."""
    file = of_size(tmp_path, "a.png", 90_000)
    text = file.model_copy(update={"path": None, "text": "x" * 60_000})
    delivery = WithinLimit(Elsewhere(), 100_000)
    assert [each.url for each in await delivery.deliver([file])] == ["https://b/k"]
    with pytest.raises(AnswerTooLarge, match="texts that its nodes reported"):
        await delivery.deliver([file, text])


async def test_a_file_that_did_not_arrive_falls_back_into_the_answer(tmp_path: Path) -> None:
    """The others stay where they arrived, in their order."""
    artifacts = [of_size(tmp_path, name, 3) for name in ("a.png", "b.png", "c.png")]
    delivered = await InlineFallback(Elsewhere("b.png"), 100_000, inline=INLINE).deliver(artifacts)
    assert [(each.name, each.data, each.url, each.failure) for each in delivered] == [
        ("a.png", None, "https://b/k", None),
        ("b.png", "eHh4", None, None),
        ("c.png", None, "https://b/k", None),
    ]


async def test_a_file_that_neither_arrived_nor_fits_has_failed(tmp_path: Path) -> None:
    """With the reason why it did not arrive."""
    [delivered] = await InlineFallback(Elsewhere("a.png"), 5000, inline=INLINE).deliver(
        [of_size(tmp_path, "a.png", 3000)]
    )
    assert (delivered.data, delivered.failure) == (None, DOWN)


async def test_what_falls_back_fits_beside_all_that_is_in_the_answer(tmp_path: Path) -> None:
    """Texts are there already."""
    file = of_size(tmp_path, "a.png", 3000)
    text = file.model_copy(update={"path": None, "name": "a.txt", "text": "x" * 3000})
    fallback = InlineFallback(Elsewhere("a.png"), 10_000, inline=INLINE)
    assert [each.failure for each in await fallback.deliver([file])] == [None]
    assert [each.failure for each in await fallback.deliver([file, text])] == [DOWN, None]


async def test_what_falls_back_is_told_of_too(tmp_path: Path) -> None:
    """Once: the other delivery tells of what it brought itself."""
    told: list[Artifact] = []
    artifacts = [of_size(tmp_path, name, 3) for name in ("a.png", "b.png")]
    delivered = await InlineFallback(Elsewhere("b.png"), None, inline=TellingDelivery(INLINE, told.append)).deliver(
        artifacts
    )
    assert told == [delivered[1]]


async def test_what_cannot_be_read_does_not_fall_back(tmp_path: Path) -> None:
    """What did arrive is not forgotten over it."""
    gone, there = (of_size(tmp_path, name, 3) for name in ("a.png", "b.png"))
    (tmp_path / "a.png").unlink()
    delivered = await InlineFallback(Elsewhere("a.png"), None, inline=INLINE).deliver([gone, there])
    assert [(each.failure, each.url) for each in delivered] == [(DOWN, None), (None, "https://b/k")]
