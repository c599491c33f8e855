"""The keys under which files are stored."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyworker.delivery.store import check_template
from comfyworker.delivery.store.keys import MAX_KEY_BYTES, object_keys
from comfyworker.errors import InvalidSettings
from support.artifacts import artifact

NOW = datetime(2026, 3, 4, 23, 30, tzinfo=UTC)
USUAL = "{request_id}/{filename}"
TEMPLATES = (
    USUAL,
    "{filename}",
    "{date}/{request_id}/{node_id}/{stem}.{extension}",
    "{year}/{month}/{day}/{index}-{filename}",
    "/{node_id}//x/{stem}/",
    "a{extension}",
)
ANY_TEXT = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["..", ".", "", "/", "a/../b", "\\", "a.tar.gz", ".png"]
)


def keys(names: list[str], template: str = USUAL, *, prefix: str = "", request_id: str = "job") -> list[str]:
    """Return the keys of files with these names."""
    return object_keys([artifact(name) for name in names], template, prefix=prefix, request_id=request_id, now=NOW)


@pytest.mark.parametrize(
    ("template", "key"),
    [
        (USUAL, "job/a_00001_.png"),
        ("{date}/{node_id}/{stem}.{extension}", "2026-03-04/9/a_00001_.png"),
        ("{year}/{month}/{day}/{index}.{extension}", "2026/03/04/1.png"),
    ],
)
def test_the_fields_of_a_template(template: str, key: str) -> None:
    """Each field stands for what it says, dates in UTC."""
    assert keys(["a_00001_.png"], template) == [key]


def test_equal_keys_of_one_job_are_numbered_before_the_extension() -> None:
    """None replaces another, not even one that bears the number already."""
    assert keys(["a.png", "a.png", "a-2.png", "a.png"]) == ["job/a.png", "job/a-2.png", "job/a-2-2.png", "job/a-3.png"]


@pytest.mark.parametrize("prefix", ["outputs", "outputs/", "/outputs", "outputs//"])
def test_a_prefix_is_a_folder(prefix: str) -> None:
    """With or without slashes around it."""
    assert keys(["a.png"], prefix=prefix) == ["outputs/job/a.png"]


def test_an_id_and_a_name_make_no_folders() -> None:
    """A slash in an id, or in a name that a node gave, does not lead elsewhere."""
    assert keys(["../../a.png"], request_id="../../evil") == [".._.._evil/.._.._a.png"]
    assert keys([".."], request_id="..") == ["__/__"]


def test_control_characters_do_not_get_into_keys() -> None:
    """Nor what breaks lines, turns the reading direction, or is half a character."""
    assert keys(["a\nb\x00\u202egnp\ud800.png"], request_id="j\r\n") == ["j__/a_b__gnp_.png"]


def test_long_names_are_cut_before_their_extension() -> None:
    """A name stays a name that a file system can hold; the whole key stays within S3's limit."""
    [key] = keys(["ü" * 600 + ".png"], prefix="/".join(["p" * 200] * 8))
    assert key.endswith("ü.png")
    assert len(key.encode()) <= MAX_KEY_BYTES
    assert len(key.rpartition("/")[2].encode()) <= 255


@given(
    names=st.lists(ANY_TEXT, min_size=1, max_size=8),
    template=st.sampled_from(TEMPLATES),
    prefix=ANY_TEXT,
    request_id=ANY_TEXT,
)
@example(names=["a" * 300, "a" * 300], template=USUAL, prefix="p" * 3000, request_id="r" * 3000)
def test_no_key_escapes_and_none_is_twice(names: list[str], template: str, prefix: str, request_id: str) -> None:
    """Whatever comes in, a key is relative, whole, short, below its prefix, and the only one of its kind."""
    made = keys(names, template, prefix=prefix, request_id=request_id)
    assert len(set(made)) == len(names)
    [alone] = keys(["x"], "{filename}", prefix=prefix)
    folder = alone.rpartition("/")[0]
    for key in made:
        assert len(key.encode()) <= MAX_KEY_BYTES
        assert key.isprintable() or not any(ord(mark) < 32 or 127 <= ord(mark) < 160 for mark in key)
        assert all(part and part.strip(".") for part in key.split("/"))
        assert key.startswith(folder) or len(folder.encode()) > 500


def test_a_file_without_a_name_gets_one() -> None:
    """Its key is not the folder's."""
    assert keys(["", " "], "{request_id}/{filename}", prefix="0.0", request_id="") == ["0.0/file-1", "0.0/file-2"]
    assert keys([" "], "{request_id}/{filename}", prefix="", request_id="job") == ["job/file-1"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_that_can_be_used(template: str) -> None:
    """All documented fields pass."""
    check_template(template)


@pytest.mark.parametrize("template", ["{name}", "{filename", "filename}", "{filename!r}", "{filename.x}", "same", "{}"])
def test_templates_that_cannot_be_used(template: str) -> None:
    """An unknown field, a stray brace and a template without fields are told at the start."""
    with pytest.raises(InvalidSettings, match=r"^BUCKET_KEY_TEMPLATE ") as caught:
        check_template(template)
    assert "{filename}" in (caught.value.hint or "")
