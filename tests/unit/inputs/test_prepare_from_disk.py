"""Prepare: files that the host has taken in before, and that lie on our disk."""

import io
from pathlib import Path

import pytest
from blake3 import blake3
from PIL import Image

from comfyworker.errors import InvalidRequest, MissingAsset
from comfyworker.inputs.prepare import DecodedFile, prepare_files
from comfyworker.jobs import ArtifactKind, InputFile, JobRequest
from comfyworker.settings import InputSettings

LIMITS = InputSettings(max_file_bytes=1, max_pixels=1_000_000)
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif"}


def lying(folder: Path, data: bytes, name: str = "9f/photo.png") -> InputFile:
    """Return a file that lies in a folder, under a name that says nothing."""
    path = folder / "blob"
    path.write_bytes(data)
    return InputFile(name=name, path=path)


def picture(format_name: str) -> bytes:
    """Return a picture with some detail."""
    out = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(out, format_name)
    return out.getvalue()


@pytest.mark.parametrize("format_name", FORMATS)
async def test_a_picture_on_the_disk_is_recognised(tmp_path: Path, format_name: str) -> None:
    """It stays where it is; kind and digest are those of its bytes, and the limit for what is sent does not hold."""
    data = picture(format_name)
    (file,) = await prepare_files([lying(tmp_path, data)], LIMITS)
    assert file == DecodedFile(
        name="9f/photo.png",
        data=tmp_path / "blob",
        kind=ArtifactKind.IMAGE,
        extension=FORMATS[format_name],
        digest=blake3(data).hexdigest(),
    )


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF"])
async def test_a_broken_picture_on_the_disk_is_refused(tmp_path: Path, format_name: str) -> None:
    """Half of a picture is found out without its being in memory."""
    data = picture(format_name)
    with pytest.raises(InvalidRequest) as caught:
        await prepare_files([lying(tmp_path, data[: len(data) // 2])], LIMITS)
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        ("broken_picture", "asset '9f/photo.png'")
    ]


@pytest.mark.parametrize(
    ("name", "extension"),
    [("9f/words.srt", "srt"), ("9f/A.CUBE", "cube"), ("9f/none", "bin"), ("9f/odd.x/y", "bin"), ("9f/a.p y", "bin")],
)
async def test_a_file_of_another_kind_is_what_its_name_says(tmp_path: Path, name: str, extension: str) -> None:
    """An asset may be anything that a node reads."""
    (file,) = await prepare_files([lying(tmp_path, b"anything", name)], LIMITS)
    assert (file.kind, file.extension) == (ArtifactKind.FILE, extension)


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """As one that was sent is."""
    with pytest.raises(InvalidRequest, match=r"asset '9f/photo\.png' is empty"):
        await prepare_files([lying(tmp_path, b"")], LIMITS)


async def test_files_that_are_gone_are_named(tmp_path: Path) -> None:
    """All of them at once, as missing assets."""
    there = lying(tmp_path, picture("PNG"))
    gone = [InputFile(name=name, path=tmp_path / "gone") for name in ("1/a.png", "2/b.png")]
    with pytest.raises(MissingAsset) as caught:
        await prepare_files([there, *gone], LIMITS)
    assert [problem.path for problem in caught.value.problems] == ["asset '1/a.png'", "asset '2/b.png'"]
    assert str(tmp_path) not in str(caught.value.to_dict())


def test_a_request_with_such_a_file_can_be_written_down(tmp_path: Path) -> None:
    """And read again; where it lies is in no repr."""
    request = JobRequest(id="j", files=(InputFile(name="a.png", path=tmp_path / "blob"),))
    assert JobRequest.model_validate_json(request.model_dump_json()) == request
    assert "blob" not in repr(request)
