"""Pictures made into what is asked for."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from comfyworker.delivery.pictures import PictureShaper, Shape, Shaped
from comfyworker.errors import DeliveryFailed, InsufficientStorage
from comfyworker.jobs import Artifact, ArtifactKind, PictureFormat
from support.pictures import (
    MAKE,
    MODEL,
    ORIENTATION,
    PROMPT,
    WORKFLOW,
    artifact,
    comfyui_png,
    difference,
    encoded,
    exif,
    frames,
    gradient,
    opened,
    profile,
)

FORMATS = tuple(PictureFormat)
EXIF_FORMATS = (PictureFormat.JPEG, PictureFormat.WEBP, PictureFormat.AVIF)
CLOSE = 5.0  # of 255: what a lossy format may change on average; wrong colours are 40 apart and more

Make = Callable[..., Artifact]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes an artifact of a file's content."""

    def make(name: str, content: bytes, **options: Any) -> Artifact:
        path = tmp_path / "comfyui" / str(options.get("subfolder", "")) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return artifact(path, **options)

    return make


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a folder that is not there yet."""
    return tmp_path / "spool"


def files(folder: Path) -> list[Path]:
    """Return the files in a folder, which need not be there."""
    return list(folder.iterdir()) if folder.exists() else []


async def shaped(spool: Path, *artifacts: Artifact, format_: PictureFormat | None = None, **options: Any) -> Shaped:
    """Return what becomes of the artifacts."""
    return await PictureShaper().shape(artifacts, Shape(format=format_, **options), spool=spool)


async def only(spool: Path, artifact_: Artifact, **options: Any) -> Image.Image:
    """Return the one picture that comes of one artifact, without a warning."""
    result = await shaped(spool, artifact_, **options)
    assert result.warnings == ()
    [after] = result.artifacts
    assert after.path is not None
    return opened(after.path)


@pytest.mark.parametrize("format_", EXIF_FORMATS)
async def test_a_png_becomes_another_format(make: Make, spool: Path, format_: PictureFormat) -> None:
    """The artifact says what it is now, looks the same, and ComfyUI's file stays as it was."""
    before = make("ComfyUI_00001_.png", comfyui_png())
    [after] = (await shaped(spool, before, format_=format_)).artifacts
    extension = {"jpeg": "jpg"}.get(format_, format_)
    assert after.path is not None
    assert after.path.parent == spool
    assert (after.name, after.content_type) == (f"ComfyUI_00001_.{extension}", f"image/{format_}")
    assert (after.kind, after.size_bytes, after.comfyui_url) == ("image", after.path.stat().st_size, None)
    assert opened(after.path).format == format_.upper()
    assert difference(gradient(), opened(after.path)) < CLOSE
    assert before.path is not None
    assert before.path.read_bytes() == comfyui_png()


@pytest.mark.parametrize("format_", EXIF_FORMATS)
async def test_the_workflow_is_where_comfyui_looks_for_it(make: Make, spool: Path, format_: PictureFormat) -> None:
    """Prompt and workflow go from PNG text to the EXIF tags of ComfyUI's own WebPs, other texts below; and back."""
    texts = {"prompt": PROMPT, "workflow": WORKFLOW, "parameters": "été"}
    before = make("a.png", comfyui_png(**texts))
    [after] = (await shaped(spool, before, format_=format_)).artifacts
    assert after.path is not None
    told = dict(opened(after.path).getexif())
    assert told[MODEL] == f"prompt:{PROMPT}"
    assert told[MAKE] == f"workflow:{WORKFLOW}"
    assert told[0x010E].encode("latin-1").decode() == "parameters:été"
    back = await only(spool, after, format_=PictureFormat.PNG)
    assert {"prompt": PROMPT, "workflow": WORKFLOW}.items() <= back.info.items()
    assert MAKE not in back.getexif()


async def test_comfyui_s_own_webp(make: Make, spool: Path) -> None:
    """What ComfyUI has put into a WebP is text again in a PNG, letters of any alphabet included."""
    told = exif(prompt='{"text": "fox"}', workflow="{}")
    told[MODEL] = 'prompt:{"text": "狐"}'.encode()
    picture = await only(spool, make("a.webp", encoded(gradient(), "WEBP", exif=told)), format_=PictureFormat.PNG)
    assert picture.info["prompt"] == '{"text": "狐"}'
    assert picture.info["workflow"] == "{}"


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_photograph_s_own_words(make: Make, spool: Path, format_: PictureFormat) -> None:
    """EXIF data that is not ComfyUI's is kept, and XMP."""
    told = exif(orientation=6)
    told[MAKE], told[0x0131] = "Camera: Works", "Software"
    content = encoded(gradient(), "TIFF", exif=told)
    before = make("a.jpg", encoded(gradient(), "JPEG", exif=told, xmp=b"<x>words</x>"))
    picture = await only(spool, before, format_=format_, quality=90)
    kept = dict(picture.getexif())
    assert (kept[MAKE], kept[0x0131]) == ("Camera: Works", "Software")
    assert picture.info.get("xmp") == b"<x>words</x>"
    of_tiff = dict((await only(spool, make("a.tiff", content), format_=format_)).getexif())
    assert of_tiff == {MAKE: "Camera: Works", 0x0131: "Software"}


@pytest.mark.parametrize("format_", FORMATS)
async def test_stripped_on_the_way(make: Make, spool: Path, format_: PictureFormat) -> None:
    """Asked to strip, nothing of what was told is left, whether the picture is converted or in the format already."""
    names = {"a.png": comfyui_png(), "b.webp": encoded(gradient(), "WEBP", exif=exif(prompt=PROMPT, workflow=WORKFLOW))}
    result = await shaped(
        spool, *(make(name, content) for name, content in names.items()), format_=format_, strip_metadata=True
    )
    assert result.warnings == ()
    for after in result.artifacts:
        assert after.path is not None
        assert b"secret fox" not in after.path.read_bytes()
        assert difference(gradient(), opened(after.path)) < CLOSE


async def test_only_stripped(make: Make, spool: Path) -> None:
    """Without a format, a stripped picture keeps its name, its type and every pixel."""
    before = make("a.png", comfyui_png())
    [after] = (await shaped(spool, before, strip_metadata=True)).artifacts
    assert after.path is not None
    assert frames(after.path.read_bytes()) == frames(comfyui_png())
    assert after.model_dump(exclude={"path", "size_bytes", "comfyui_url"}) == before.model_dump(
        exclude={"path", "size_bytes", "comfyui_url"}
    )
    assert after.size_bytes == after.path.stat().st_size < before.size_bytes


@pytest.mark.parametrize(
    "shape",
    [Shape(), Shape(quality=50), Shape(format=PictureFormat.PNG), Shape(format=PictureFormat.PNG, quality=50)],
)
async def test_left_alone(make: Make, spool: Path, shape: Shape) -> None:
    """A picture that is what was asked for already is the same artifact, and nothing is written."""
    before = make("a.png", comfyui_png())
    result = await PictureShaper().shape([before], shape, spool=spool)
    assert result == Shaped(artifacts=(before,))
    assert result.artifacts[0] is before
    assert files(spool) == []


async def test_quality(make: Make, spool: Path) -> None:
    """A quality makes a picture of the same lossy format anew; the better it is, the larger and the closer."""
    noise = Image.fromarray(np.random.default_rng(4).integers(0, 255, (64, 64, 3)).astype("uint8"))
    before = make("a.jpg", encoded(noise, "JPEG", quality=95, exif=exif(prompt=PROMPT, workflow=WORKFLOW)))
    sizes = []
    for quality in (20, 60, 90):
        [after] = (await shaped(spool, before, format_=PictureFormat.JPEG, quality=quality)).artifacts
        assert (after.name, dict(opened(after.path or Path()).getexif())[MODEL]) == ("a.jpg", f"prompt:{PROMPT}")
        sizes.append(after.size_bytes)
    assert sizes == sorted(set(sizes))


PICTURES = {
    "grey.png": lambda: encoded(gradient().convert("L"), "PNG"),
    "grey-and-alpha.png": lambda: encoded(gradient().convert("LA"), "PNG"),
    "palette.png": lambda: encoded(gradient().quantize(64), "PNG"),
    "two.png": lambda: encoded(gradient().convert("1"), "PNG"),
    "opaque.png": lambda: encoded(gradient().convert("RGBA"), "PNG"),
    "a.bmp": lambda: encoded(gradient(), "BMP"),
    "a.tiff": lambda: encoded(gradient(), "TIFF"),
    "a.gif": lambda: encoded(gradient(), "GIF"),
    "a.avif": lambda: encoded(gradient(), "AVIF", quality=95),
    "a.webp": lambda: encoded(gradient(), "WEBP", lossless=True),
    "cmyk.jpg": lambda: encoded(gradient().convert("CMYK"), "JPEG", quality=95),
    "cmyk.tiff": lambda: encoded(gradient().convert("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", PICTURES)
async def test_every_sort_of_picture_looks_the_same(make: Make, spool: Path, name: str, format_: PictureFormat) -> None:
    """Grey, palettes, two colours, alpha, CMYK: what is shown is shown in every format."""
    content = PICTURES[name]()
    picture = await only(spool, make(name, content), format_=format_, quality=95)
    assert difference(opened(content), picture) < CLOSE


@pytest.mark.parametrize("format_", EXIF_FORMATS)
async def test_sixteen_bits(make: Make, spool: Path, format_: PictureFormat) -> None:
    """16 bits of grey are scaled to 8, not cut off at 255; a PNG keeps them."""
    deep = np.tile(np.linspace(0, 65535, 64).astype("uint16"), (16, 1))
    picture = await only(spool, make("a.tiff", encoded(Image.fromarray(deep), "TIFF")), format_=format_)
    assert difference(Image.fromarray(np.rint(deep / 257).astype("uint8")), picture) < CLOSE
    whole = await only(spool, make("b.tiff", encoded(Image.fromarray(deep), "TIFF")), format_=PictureFormat.PNG)
    assert np.array_equal(np.asarray(whole), deep)


@pytest.mark.parametrize("format_", [PictureFormat.PNG, PictureFormat.WEBP, PictureFormat.AVIF])
async def test_transparency(make: Make, spool: Path, format_: PictureFormat) -> None:
    """What can be seen through stays so: alpha, or a palette's colour."""
    soft = gradient()
    soft.putalpha(gradient().getchannel("R"))
    palette = gradient().quantize(32)
    for name, content in {
        "a.tiff": encoded(soft, "TIFF"),
        "b.webp": encoded(soft, "WEBP", lossless=True, exact=True),
        "c.gif": encoded(palette, "GIF", transparency=palette.getpixel((0, 0))),
    }.items():
        picture = await only(spool, make(name, content), format_=format_, quality=95)
        before = opened(content).convert("RGBA")
        assert picture.mode == "RGBA"
        alpha = Image.merge("RGB", [before.getchannel("A")] * 3), Image.merge("RGB", [picture.getchannel("A")] * 3)
        assert difference(*alpha) < CLOSE


async def test_a_jpeg_cannot_be_seen_through(make: Make, spool: Path) -> None:
    """In a JPEG, white lies behind what could be seen through, and the answer says so."""
    clear = gradient()
    clear.putalpha(0)
    result = await shaped(spool, make("a.png", encoded(clear, "PNG")), format_=PictureFormat.JPEG)
    [after] = result.artifacts
    assert after.path is not None
    assert opened(after.path).getpixel((0, 0)) == (255, 255, 255)
    assert result.warnings == ("a.png is seen through in places, which jpeg cannot hold: they are white",)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_turned_pictures(make: Make, spool: Path, format_: PictureFormat, orientation: int) -> None:
    """A picture that EXIF data turns is turned itself, once."""
    content = encoded(gradient(), "TIFF", exif=exif(orientation=orientation))
    picture = await only(spool, make("a.tiff", content), format_=format_)
    assert picture.getexif().get(ORIENTATION, 1) == 1
    assert difference(ImageOps.exif_transpose(opened(content)), picture) < CLOSE


@pytest.mark.parametrize("format_", FORMATS)
async def test_colour_profiles(make: Make, spool: Path, format_: PictureFormat) -> None:
    """A profile that fits the colours stays with them."""
    content = encoded(gradient(), "TIFF", icc_profile=profile("red"))
    picture = await only(spool, make("a.tiff", content), format_=format_, strip_metadata=True)
    assert picture.info["icc_profile"] == profile("red")
    assert difference(gradient(), picture) < CLOSE


async def test_a_grey_profile_is_applied(make: Make, spool: Path) -> None:
    """A profile that no longer fits, since WebP has no grey, is applied to the colours; a broken one is dropped."""
    flat = Image.new("L", (8, 8), 128)
    before = make("a.png", encoded(flat, "PNG", icc_profile=profile("grey")))
    picture = await only(spool, before, format_=PictureFormat.WEBP)
    assert "icc_profile" not in picture.info
    assert difference(Image.new("L", (8, 8), 188), picture) < CLOSE  # 128 of linear light, in sRGB
    kept = await only(spool, before, format_=PictureFormat.JPEG)
    assert kept.info["icc_profile"] == profile("grey")
    broken = await only(
        spool, make("b.png", encoded(flat, "PNG", icc_profile=b"no profile")), format_=PictureFormat.WEBP
    )
    assert difference(flat, broken) < CLOSE


async def test_what_is_no_still_picture(make: Make, spool: Path) -> None:
    """Animations, drawings and broken files are passed on with a warning; what is no picture, without one."""
    animation = encoded(gradient(), "WEBP", save_all=True, append_images=[gradient().rotate(90)])
    cut_off = comfyui_png()[: comfyui_png().index(b"IDAT") + 20]
    artifacts = [
        make("a.webp", animation),
        make("b.svg", b"<svg/>"),
        make("c.png", cut_off),
        make("d.tiff", encoded(Image.new("F", (4, 4)), "TIFF")),
        make("e.mp4", b"video", kind=ArtifactKind.VIDEO),
        make("f.wav", b"audio", kind=ArtifactKind.AUDIO),
        make("g.glb", b"model", kind=ArtifactKind.FILE),
        make("h.png", b"").model_copy(update={"path": None, "text": "text", "kind": ArtifactKind.TEXT}),
    ]
    result = await shaped(spool, *artifacts, format_=PictureFormat.JPEG)
    assert [after is before for after, before in zip(result.artifacts, artifacts, strict=True)] == [True] * 8
    assert result.warnings == (
        "a.webp was not made into jpeg: it is more than a still picture",
        "b.svg was not made into jpeg: it is none of png, jpeg, webp, avif, bmp, tiff, gif, or broken",
        "c.png was not made into jpeg: it is broken",
        "d.tiff was not made into jpeg: its values (F) are not colours that jpeg can hold",
    )
    assert files(spool) == []


async def test_what_cannot_be_stripped(make: Make, spool: Path) -> None:
    """A picture that keeps its metadata although it was to be stripped is named; an animation is stripped."""
    told = exif(prompt=PROMPT, workflow=WORKFLOW)
    animation = encoded(gradient(), "WEBP", save_all=True, append_images=[gradient().rotate(90)], exif=told)
    result = await shaped(spool, make("a.webp", animation), make("b.exr", b"v/1\x01"), strip_metadata=True)
    assert result.warnings == ("b.exr keeps its metadata: only png, jpeg, webp, avif and gif can be stripped",)
    [after, _] = result.artifacts
    assert after.path is not None
    assert b"secret fox" not in after.path.read_bytes()
    assert len(frames(after.path.read_bytes())) == 2


async def test_too_large_for_the_format(make: Make, spool: Path) -> None:
    """A picture with longer sides than the format knows stays as it is."""
    before = make("a.png", encoded(Image.new("L", (16384, 1)), "PNG"))
    result = await shaped(spool, before, format_=PictureFormat.WEBP)
    assert result == Shaped(
        artifacts=(before,),
        warnings=("a.png was not made into webp: 16384 x 1 pixels are more than webp can hold (16383 a side)",),
    )


async def test_more_pixels_than_pillow_likes(make: Make, spool: Path) -> None:
    """Pillow's guard against bombs does not stand in the way of what ComfyUI has made; ours stops beyond reason."""
    picture = await only(
        spool, make("a.png", encoded(Image.new("1", (15000, 6000)), "PNG")), format_=PictureFormat.JPEG
    )
    assert picture.size == (15000, 6000)
    bomb = bytearray(encoded(Image.new("L", (1, 1)), "BMP"))
    bomb[18:26] = (30_000).to_bytes(4, "little") * 2
    result = await shaped(spool, make("b.bmp", bytes(bomb)), format_=PictureFormat.JPEG)
    assert result.warnings == (
        "b.bmp was not made into jpeg: 30000 x 30000 pixels are more than the 400000000 that can be converted",
    )


async def test_a_workflow_that_does_not_fit(make: Make, spool: Path) -> None:
    """A JPEG's metadata has 64 kB: of what does not fit, the largest goes, and is named; WebP and AVIF take all."""
    before = make("a.png", comfyui_png(prompt=PROMPT, workflow='{"text": "' + "x" * 70_000 + '"}'))
    result = await shaped(spool, before, format_=PictureFormat.JPEG)
    assert result.warnings == ("a.png was made into jpeg without its metadata that did not fit: workflow",)
    [after] = result.artifacts
    assert dict(opened(after.path or Path()).getexif()) == {MODEL: f"prompt:{PROMPT}"}
    assert len(dict((await only(spool, before, format_=PictureFormat.WEBP)).getexif())[MAKE]) > 70_000


async def test_names_stay_unique(make: Make, spool: Path) -> None:
    """Pictures that would be called the same are numbered within their folder, in the order in which they came."""
    artifacts = [
        make("a.png", comfyui_png()),
        make("a.webp", encoded(gradient(), "WEBP")),
        make("a.bmp", encoded(gradient(), "BMP")),
        make("a.png", comfyui_png(), subfolder="sub"),
    ]
    result = await shaped(spool, *artifacts, format_=PictureFormat.WEBP)
    assert [(after.subfolder, after.name) for after in result.artifacts] == [
        ("", "a-2.webp"),
        ("", "a.webp"),
        ("", "a-3.webp"),
        ("sub", "a.webp"),
    ]


async def test_more_pictures_than_places(make: Make, spool: Path) -> None:
    """Many pictures at once, large ones among them, all get their turn and keep their order."""
    large = encoded(Image.new("1", (8000, 8000)), "PNG")
    artifacts = [make(f"{number}.png", large if number % 4 == 0 else comfyui_png()) for number in range(9)]
    result = await PictureShaper(at_once=2).shape(artifacts, Shape(format=PictureFormat.JPEG), spool=spool)
    assert [after.name for after in result.artifacts] == [f"{number}.jpg" for number in range(9)]
    assert len(files(spool)) == 9


async def test_a_file_that_is_gone(make: Make, spool: Path) -> None:
    """A file that has vanished is passed on: whoever delivers it says so."""
    before = make("a.png", comfyui_png())
    assert before.path is not None
    before.path.unlink()
    result = await shaped(spool, before, format_=PictureFormat.WEBP, strip_metadata=True)
    assert result.artifacts == (before,)
    assert len(result.warnings) == 2


async def test_the_spool_cannot_be_written(make: Make, tmp_path: Path) -> None:
    """A spool folder that cannot be made is the delivery's failure."""
    (tmp_path / "file").touch()
    with pytest.raises(DeliveryFailed) as caught:
        await shaped(tmp_path / "file" / "spool", make("a.png", comfyui_png()), format_=PictureFormat.WEBP)
    assert str(tmp_path) not in str(caught.value.to_dict())


async def test_the_disk_is_full(make: Make, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk has an error of its own."""

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, os.strerror(28))

    before = make("a.png", comfyui_png())
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InsufficientStorage):
        await shaped(spool, before, format_=PictureFormat.WEBP)


async def test_cancelled_in_the_middle(make: Make, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cancels waits until no thread writes any more, so that the spool folder can be removed."""
    begun, go = threading.Event(), threading.Event()
    save = Image.Image.save

    def slow(*arguments: Any, **options: Any) -> None:
        begun.set()
        go.wait(10)
        save(*arguments, **options)

    before = make("a.png", comfyui_png())
    monkeypatch.setattr(Image.Image, "save", slow)
    task = asyncio.ensure_future(shaped(spool, before, format_=PictureFormat.WEBP))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(files(spool)) == 1
