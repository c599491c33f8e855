"""Which formats there are, and what their files are called."""

import pytest
from PIL import features

from comfyworker.delivery.pictures import check_format
from comfyworker.delivery.pictures.formats import named_as, numbered
from comfyworker.errors import InvalidRequest
from comfyworker.jobs import PictureFormat


@pytest.mark.parametrize("format_", [None, *PictureFormat])
def test_this_pillow_writes_them_all(format_: PictureFormat | None) -> None:
    """The Pillow that the project is tested with has every format."""
    check_format(format_)


def test_a_pillow_without_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pillow that was built without a format is said to be, before a job runs, with what there is instead."""
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(InvalidRequest) as caught:
        check_format(PictureFormat.AVIF, path="input.output.format")
    [problem] = caught.value.problems
    assert (problem.path, problem.choices) == ("input.output.format", ("png", "jpeg", "webp"))
    assert caught.value.hint == "Ask for one of png, jpeg, webp."


@pytest.mark.parametrize(
    ("name", "format_", "expected"),
    [
        ("ComfyUI_00001_.png", "webp", "ComfyUI_00001_.webp"),
        ("a.PNG", "png", "a.PNG"),
        ("a.jpeg", "jpeg", "a.jpeg"),
        ("a.png", "jpeg", "a.jpg"),
        ("a.b.png", "avif", "a.b.avif"),
        ("picture", "png", "picture.png"),
        (".png", "webp", ".png.webp"),
        ("ä" * 125 + ".png", "webp", "ä" * 125 + ".webp"),
        ("ä" * 127 + ".", "webp", "ä" * 125 + ".webp"),
    ],
)
def test_names(name: str, format_: str, expected: str) -> None:
    """A name gets the format's usual extension, unless it has one of the format's, and stays one that disks take."""
    assert named_as(name, PictureFormat(format_)) == expected
    assert len(expected.encode()) <= 255


def test_numbers_stand_before_the_extension() -> None:
    """A name that is taken is numbered, and stays one that disks take."""
    assert numbered("a.webp", 2) == "a-2.webp"
    assert numbered("x" * 250 + ".webp", 12) == "x" * 247 + "-12.webp"
