"""Media: what a file is, by its bytes."""

import contextlib
import io
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfyworker.errors import InvalidRequest
from comfyworker.inputs.media import Media, identify
from comfyworker.jobs import ArtifactKind

PATH = "images[0].image"
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif"}


def picture(format_name: str, size: tuple[int, int] = (48, 32), **options: object) -> bytes:
    """Return a picture with some detail in it, so that its data is not all header."""
    image = Image.effect_noise(size, 90).convert("RGB")
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


PICTURES = {name: picture(name) for name in EXTENSIONS} | {
    "JPEG": picture("JPEG", exif=b"Exif\0\0" + b"\xff\xd8 a thumbnail \xff\xd9"),
    "TIFF": picture("TIFF", compression="tiff_lzw"),
}


def safetensors(header: dict[str, object]) -> bytes:
    """Return the bytes of a safetensors file without tensors."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def media(data: bytes, name: str = "file", max_pixels: int = 1_000_000) -> Media:
    """Identify as the first file of a request."""
    return identify(data, name=name, path=PATH, max_pixels=max_pixels)


def problem(data: bytes, name: str = "file", max_pixels: int = 1_000_000) -> tuple[str | None, str]:
    """Return the code and the words of the one problem that `data` has."""
    with pytest.raises(InvalidRequest) as caught:
        media(data, name, max_pixels)
    (found,) = caught.value.problems
    assert found.path == PATH
    return found.code, found.message


@pytest.mark.parametrize("format_name", EXTENSIONS)
def test_a_picture_is_known_by_its_bytes(format_name: str) -> None:
    """The name does not matter; a phone's JPEG may even be called .png."""
    assert media(PICTURES[format_name], "x.png") == Media(ArtifactKind.IMAGE, EXTENSIONS[format_name])


def test_a_jpeg_of_several_pictures_is_a_jpeg() -> None:
    """Pillow calls a phone's JPEG with a depth map MPO."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "MPO", save_all=True, append_images=frames[1:])
    assert media(out.getvalue()) == Media(ArtifactKind.IMAGE, "jpg")


@pytest.mark.parametrize("save_all", [{"save_all": True, "duration": 50}])
@pytest.mark.parametrize("format_name", ["PNG", "GIF", "WEBP"])
def test_an_animation_is_a_picture(format_name: str, save_all: dict[str, object]) -> None:
    """Moving pictures in a still picture's format stay images."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, format_name, append_images=frames[1:], **save_all)
    assert media(out.getvalue()) == Media(ArtifactKind.IMAGE, EXTENSIONS[format_name])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about a TIFF's directory
@pytest.mark.parametrize("missing", [16, 400])
@pytest.mark.parametrize("format_name", EXTENSIONS)
def test_a_picture_that_is_cut_off_is_refused(format_name: str, missing: int) -> None:
    """A missing end is found in every format."""
    code, message = problem(PICTURES[format_name][:-missing])
    assert code == "broken_picture"
    assert message.endswith(f"it begins as a {format_name} picture, but cannot be read as one")


@pytest.mark.parametrize("format_name", EXTENSIONS)
def test_a_picture_with_more_behind_its_end_is_fine(format_name: str) -> None:
    """Phones and editors append data of their own."""
    assert media(PICTURES[format_name] + b"\0" * 64).extension == EXTENSIONS[format_name]


def test_an_altered_png_is_refused() -> None:
    """A checksum of a PNG tells that a byte is not as it was."""
    data = bytearray(PICTURES["PNG"])
    data[len(data) // 2] ^= 1
    assert problem(bytes(data))[0] == "broken_picture"


@pytest.mark.parametrize("format_name", EXTENSIONS)
def test_too_many_pixels_are_refused_by_the_header(format_name: str) -> None:
    """The limit is on what the picture would be, not on its bytes."""
    assert problem(PICTURES[format_name], max_pixels=48 * 32 - 1) == (
        "too_many_pixels",
        "images[0].image has 48 x 32 pixels, more than the 1535 that one picture may have",
    )
    assert media(PICTURES[format_name], max_pixels=48 * 32).kind == ArtifactKind.IMAGE


def test_a_decompression_bomb_is_refused_without_being_read() -> None:
    """A few bytes that promise 900 million pixels do not get to fill the memory, nor does Pillow's own limit speak."""
    bomb = picture("PNG", (1, 1))
    header = bytearray(bomb)
    header[16:24] = struct.pack(">II", 30_000, 30_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    code, message = problem(bytes(header), max_pixels=200_000_000)
    assert (code, "30000 x 30000 pixels" in message) == ("too_many_pixels", True)


@pytest.mark.parametrize(
    ("data", "kind", "extension"),
    [
        (b"\0\0\0\x20ftypisom" + bytes(20), ArtifactKind.VIDEO, "mp4"),
        (b"\0\0\0\x20ftypqt  " + bytes(20), ArtifactKind.VIDEO, "mov"),
        (b"\0\0\0\x20ftypM4A " + bytes(20), ArtifactKind.AUDIO, "m4a"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", ArtifactKind.VIDEO, "webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", ArtifactKind.VIDEO, "mkv"),
        (b"RIFF\x24\0\0\0AVI LIST", ArtifactKind.VIDEO, "avi"),
        (b"RIFF\x24\0\0\0WAVEfmt ", ArtifactKind.AUDIO, "wav"),
        (b"ID3\x04\0\0", ArtifactKind.AUDIO, "mp3"),
        (b"\xff\xfb\x90\x64\0\0", ArtifactKind.AUDIO, "mp3"),
        (b"fLaC\0\0\0\x22", ArtifactKind.AUDIO, "flac"),
        (b"OggS\0\x02" + bytes(22) + b"OpusHead", ArtifactKind.AUDIO, "opus"),
        (b"OggS\0\x02" + bytes(22) + b"\x01vorbis", ArtifactKind.AUDIO, "ogg"),
        (b"glTF\x02\0\0\0", ArtifactKind.FILE, "glb"),
        (b"PK\x03\x04\x14\0", ArtifactKind.FILE, "zip"),
        (safetensors({"__metadata__": {}}), ArtifactKind.FILE, "safetensors"),
        (safetensors({"latent_tensor": {}}), ArtifactKind.LATENT, "latent"),
    ],
)
def test_other_media_are_known_by_their_bytes(data: bytes, kind: ArtifactKind, extension: str) -> None:
    """Clients send sound, video, latents and 3D models as `images` too."""
    assert media(data) == Media(kind, extension)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"hello, this is no picture at all", "text that starts with 'hello, this is no pictur…'"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7", "a PDF"),
        (b"<svg xmlns='x'/>", "an SVG picture"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "a HEIF picture"),
        (b"\xff\xfeh\0i\0", "6 bytes of an unknown kind"),
        (b"BM is no bitmap", "text that is 'BM is no bitmap'"),
        (b"\xff", "1 bytes of an unknown kind"),
        (struct.pack("<Q", 3) + b"{x}", "11 bytes of an unknown kind"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(data: bytes, what: str) -> None:
    """A caller who sent an error page in place of a picture reads that it is one."""
    code, message = problem(data)
    assert (code, message.partition(", which is not")[0]) == ("unknown_media", f"images[0].image is {what}")


def test_a_video_that_is_named_as_a_picture_is_refused() -> None:
    """A node that loads pictures would fail on it later and say less."""
    assert problem(b"\0\0\0\x20ftypisom" + bytes(20), "x.PNG") == (
        "not_a_picture",
        "images[0].image is named as a picture (.png), but is video (mp4)",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken metadata
@pytest.mark.parametrize("format_name", EXTENSIONS)
@given(data=st.data())
def test_altered_pictures_raise_nothing_foreign(format_name: str, data: st.DataObject) -> None:
    """However a picture is damaged, it is taken or refused."""
    altered = bytearray(PICTURES[format_name])
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, min(len(altered), 300) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        media(bytes(altered[: data.draw(st.integers(1, len(altered)))]))


@given(st.binary(max_size=100))
def test_any_bytes_raise_nothing_foreign(data: bytes) -> None:
    """Any bytes are known or refused."""
    with contextlib.suppress(InvalidRequest):
        media(data)


def test_a_text_need_not_be_shown() -> None:
    """What a server answered may hold what nobody else should read."""
    with pytest.raises(InvalidRequest) as caught:
        identify(b"your token is 1234", name="a", path=PATH, max_pixels=1, quotes_text=False)
    assert caught.value.message == f"{PATH} is text, which is not a picture or other file that is taken"
