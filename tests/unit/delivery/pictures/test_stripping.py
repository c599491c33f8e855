"""Metadata taken out of files: nothing told is left, and no pixel is another."""

import contextlib
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyworker.delivery.pictures.pieces import CannotStrip
from comfyworker.delivery.pictures.stripping import strip_metadata
from support.pictures import (
    ORIENTATION,
    PROMPT,
    WORKFLOW,
    comfyui_png,
    encoded,
    exif,
    frames,
    gradient,
    opened,
    png_chunk,
    profile,
)

SECRET = b"a secret fox"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- a secret fox --></x:xmpmeta>'
TOLD = exif(prompt=PROMPT, workflow=WORKFLOW)
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
ANIMATED = ("PNG", "WEBP", "AVIF", "GIF")


def stripped(content: bytes) -> bytes:
    """Return the stripped file, or the same if nothing had to go."""
    pieces = strip_metadata(content)
    return content if pieces is None else b"".join(pieces)


@pytest.mark.parametrize("format_", FORMATS)
def test_nothing_told_is_left(format_: str) -> None:
    """EXIF and XMP go; the pixels and the colour profile stay."""
    content = encoded(gradient(), format_, exif=TOLD, xmp=XMP, icc_profile=profile("sRGB"))
    assert SECRET in content
    result = stripped(content)
    assert SECRET not in result
    assert frames(result) == frames(content)
    assert opened(result).info["icc_profile"] == profile("sRGB")


def test_comfyui_s_png() -> None:
    """The text that ComfyUI's SaveImage writes goes."""
    result = stripped(comfyui_png())
    assert SECRET not in result
    assert frames(result) == frames(comfyui_png())


@pytest.mark.parametrize("format_", ANIMATED)
def test_animations_stay_animated(format_: str) -> None:
    """Every frame stays, with its time and the number of repetitions."""
    options = {"comment": SECRET} if format_ == "GIF" else {"exif": TOLD, "xmp": XMP}
    if format_ == "PNG":
        options.pop("xmp")
    others = [gradient().rotate(angle) for angle in (90, 180)]
    content = encoded(gradient(), format_, save_all=True, append_images=others, duration=70, loop=3, **options)
    assert SECRET in content
    result = stripped(content)
    assert SECRET not in result
    assert len(frames(result)) == 3
    assert frames(result) == frames(content)
    before, after = opened(content), opened(result)
    assert (after.info.get("loop"), after.info.get("duration")) == (
        before.info.get("loop"),
        before.info.get("duration"),
    )


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_orientation_is_part_of_the_look(format_: str, orientation: int) -> None:
    """A picture that is shown turned is still shown turned; that is all its EXIF data says then."""
    content = encoded(gradient(), format_, exif=exif(prompt=PROMPT, workflow=WORKFLOW, orientation=orientation))
    told = dict(opened(stripped(content)).getexif())
    assert told == ({} if orientation == 1 else {ORIENTATION: orientation})


@pytest.mark.parametrize("format_", [*FORMATS, "GIF", "BMP"])
def test_nothing_to_strip(format_: str) -> None:
    """A file without metadata is left alone, and so is one that was stripped."""
    assert strip_metadata(encoded(gradient(), format_)) is None
    result = stripped(encoded(gradient(), format_, **({"exif": TOLD} if format_ in FORMATS else {})))
    assert strip_metadata(result) is None


def test_comfyui_s_animated_png() -> None:
    """The chunk of ComfyUI's own behind an animation's pictures goes."""
    whole = encoded(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(90)])
    content = whole[:-12] + png_chunk(b"comf", b"prompt\0" + PROMPT.encode()) + whole[-12:]
    assert stripped(content) == whole


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_follows_the_end(format_: str) -> None:
    """What somebody has put behind a picture goes, too."""
    content = encoded(gradient(), format_)
    assert stripped(content + SECRET) == content


def test_a_jpeg_s_colours_stay_those_of_its_writer() -> None:
    """The segment that says how CMYK is written is no metadata, nor is a progressive one's second scan."""
    for mode, options in (("CMYK", {}), ("RGB", {"progressive": True}), ("L", {"restart_marker_rows": 1})):
        content = encoded(gradient(320, 240).convert(mode), "JPEG", exif=TOLD, comment=SECRET, **options)
        assert SECRET not in stripped(content)
        assert frames(stripped(content)) == frames(content)


@pytest.mark.parametrize("content", [b"", b"v/1\x01", b"<svg/>", b"II*\0", b"\0\0\0\x18ftypisom"])
def test_unknown_formats(content: bytes) -> None:
    """What we cannot take apart is said to be so."""
    with pytest.raises(CannotStrip, match="only png, jpeg, webp, avif and gif"):
        strip_metadata(content)


@given(
    chunks=st.lists(
        st.tuples(
            st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"tIME", b"comf", b"prVt", b"eXIf"]), st.binary(max_size=40)
        )
    ),
    places=st.data(),
)
def test_any_chunks_of_a_png(chunks: list[tuple[bytes, bytes]], places: st.DataObject) -> None:
    """Whatever is told, and wherever among a PNG's chunks, the file without it is the one before it was told."""
    plain = encoded(gradient(), "PNG", icc_profile=profile("sRGB"))
    starts = [8]
    while plain[starts[-1] + 4 : starts[-1] + 8] != b"IEND":
        starts.append(starts[-1] + 12 + int.from_bytes(plain[starts[-1] : starts[-1] + 4], "big"))
    pieces = [plain[:8], *(plain[start:end] for start, end in itertools.pairwise([*starts, len(plain)]))]
    for kind, content in chunks:
        pieces.insert(places.draw(st.integers(2, len(pieces) - 1)), png_chunk(kind, content))
    assert stripped(b"".join(pieces)) == plain


@given(segments=st.lists(st.tuples(st.sampled_from([0xFE, *range(0xE0, 0xF0)]), st.binary(max_size=60))))
def test_any_segments_of_a_jpeg(segments: list[tuple[int, bytes]]) -> None:
    """Whatever applications have put into a JPEG, the file without it is the one before they did."""
    plain = encoded(gradient(), "JPEG")
    told = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    assert stripped(plain[:2] + told + plain[2:]) == plain


@given(chunks=st.lists(st.tuples(st.sampled_from([b"EXIF", b"XMP ", b"what"]), st.binary(max_size=40)), min_size=1))
def test_any_chunks_of_a_webp(chunks: list[tuple[bytes, bytes]]) -> None:
    """Whatever is told behind a WebP's picture, the pixels stay and it goes."""
    plain = encoded(gradient(), "WEBP", icc_profile=profile("sRGB"))
    told = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks
    )
    assert stripped(b"RIFF" + struct.pack("<I", len(plain) + len(told) - 8) + plain[8:] + told) == plain


@settings(max_examples=300)
@given(
    format_=st.sampled_from([*FORMATS, "GIF"]),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
    keep=st.integers(0, 100),
)
def test_broken_files(format_: str, changes: list[tuple[int, int]], keep: int) -> None:
    """A file that is altered or cut off is stripped or refused; nothing else happens, and it ends."""
    options = {"comment": SECRET} if format_ == "GIF" else {"exif": TOLD, "xmp": XMP}
    content = bytearray(encoded(gradient(8, 8), format_, **options))
    for place, value in changes:
        content[place % len(content)] = value
    with contextlib.suppress(CannotStrip):
        stripped(bytes(content[: len(content) * keep // 100]))
