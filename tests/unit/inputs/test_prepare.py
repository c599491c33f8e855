"""Prepare: all files of a request decoded and checked, or everything that is wrong with them at once."""

import base64
import io

import pytest
from blake3 import blake3
from PIL import Image

from comfyworker.errors import InvalidRequest
from comfyworker.inputs.prepare import DecodedFile, prepare_files
from comfyworker.jobs import ArtifactKind, InputFile
from comfyworker.settings import InputSettings

LIMITS = InputSettings(max_file_bytes=1_000_000, max_pixels=1_000_000)


def png(colour: str, size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a small picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def sent(name: str, data: bytes) -> InputFile:
    """Return a file as a request brings it."""
    return InputFile(name=name, data=base64.b64encode(data).decode())


async def test_a_file_becomes_bytes_with_a_name_of_their_own() -> None:
    """The stored name is made of the content alone."""
    data = png("red")
    (file,) = await prepare_files([sent("in put.jpg", data)], LIMITS)
    digest = blake3(data).hexdigest()
    assert file == DecodedFile(name="in put.jpg", data=data, kind=ArtifactKind.IMAGE, extension="png", digest=digest)
    assert file.stored_name == f"{digest}.png"


async def test_a_large_file_comes_out_the_same() -> None:
    """The way through a thread changes nothing."""
    out = io.BytesIO()
    Image.effect_noise((700, 700), 90).save(out, "PNG")
    (file,) = await prepare_files([sent("a.png", out.getvalue())], LIMITS)
    assert (len(out.getvalue()) > 256 * 1024, file.data) == (True, out.getvalue())


async def test_no_files_are_fine() -> None:
    """A request may come without files."""
    assert await prepare_files([], LIMITS) == ()


async def test_the_same_file_twice_counts_once() -> None:
    """Equal bytes under one name contradict nothing."""
    files = await prepare_files([sent("a.png", png("red")), sent("a.png", png("red"))], LIMITS)
    assert [file.name for file in files] == ["a.png"]


async def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Each file's problems are all in one error: name and content of one file, and two files of one name."""
    files = [
        InputFile(name="../../x", data="not base64!"),
        sent("a.png", png("red")),
        sent("a.png", png("blue")),
        sent("big.png", bytes(1_000_001)),
        sent("wide.png", png("red", (2000, 501))),
        sent("text.png", b"no picture here, sorry"),
    ]
    with pytest.raises(InvalidRequest) as caught:
        await prepare_files(files, LIMITS)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [
        ("images[0].name", "invalid_name"),
        ("images[0].image", "not_base64"),
        ("images[2].name", "name_used_twice"),
        ("images[3].image", "file_too_large"),
        ("images[4].image", "too_many_pixels"),
        ("images[5].image", "unknown_media"),
    ]
    assert caught.value.message == (
        "images[0].name leads out of its folder; it is '../../x'; "
        "images[0].image is not base64: it is 'not base64!'; "
        "images[2].name: 'a.png' names two different files; and 3 more"
    )


async def test_a_bad_name_alone_is_refused() -> None:
    """Good content does not make up for it."""
    with pytest.raises(InvalidRequest, match="leads out of its folder"):
        await prepare_files([sent("../x.png", png("red"))], LIMITS)
