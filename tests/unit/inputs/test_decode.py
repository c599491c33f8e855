"""Decode: base64 and data URIs into bytes, and names that may stand for a file."""

import base64
import contextlib
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import InvalidRequest
from comfyworker.inputs.decode import check_name, decode_data

PATH = "images[1].image"


def decode(text: str, max_bytes: int = 10_000) -> bytes:
    """Decode as the second file of a request."""
    return decode_data(text, path=PATH, max_bytes=max_bytes)


def problem(text: str, max_bytes: int = 10_000) -> tuple[str | None, str]:
    """Return the code and the words of the one problem that `text` has."""
    with pytest.raises(InvalidRequest) as caught:
        decode(text, max_bytes)
    (found,) = caught.value.problems
    assert found.path == PATH
    assert found.message == caught.value.message
    return found.code, found.message


def wrapped(data: bytes) -> str:
    """Encode with line breaks, as mail programs do."""
    return base64.encodebytes(data).decode()


ENCODERS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "urlsafe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "unpadded": lambda data: base64.b64encode(data).decode().rstrip("="),
    "wrapped": wrapped,
    "indented": lambda data: wrapped(data).replace("\n", "\n    "),
    "data URI": lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
    "data URI with parameters": lambda data: (
        "DATA:text/x;charset=utf-8;name=a;BASE64," + base64.b64encode(data).decode()
    ),
    "data URI without a type": lambda data: "data:;base64," + base64.b64encode(data).decode(),
    "data URI with escapes": lambda data: "data:image/png;base64," + quote_from_bytes(base64.b64encode(data), safe=""),
    "data URI without base64": lambda data: "data:image/svg+xml," + quote_from_bytes(data, safe=""),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@given(data=st.binary(min_size=1, max_size=200))
def test_decoding_inverts_encoding(encoder: str, data: bytes) -> None:
    """Whatever an encoder makes of some bytes, the same bytes come back."""
    assert decode(ENCODERS[encoder](data)) == data


@given(st.text())
def test_any_text_gives_bytes_or_a_problem(text: str) -> None:
    """No text, however odd, raises anything foreign."""
    with contextlib.suppress(InvalidRequest):
        assert decode(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello world, this is not base64 at all", "it starts with 'hello world, this is not…'"),
        ("hello wor", "it is 'hello wor'"),
        ("data:image/png;base64,{not base64}", "it is '{not base64}'"),
        ("abcde", "it is 'abcde'"),
        ("bild\u00e4r", "it is 'bild\u00e4r'"),
        ("a\x00b", "it is 'a\\x00b'"),
    ],
)
def test_what_is_not_base64_is_shown_by_its_beginning(text: str, message: str) -> None:
    """The problem says what is there instead, cut and on one line."""
    assert problem(text) == ("not_base64", f"images[1].image is not base64: {message}")


def test_a_data_uri_without_a_comma_is_refused() -> None:
    """Its data never begins."""
    assert problem("data:image/png;base64") == (
        "not_base64",
        "images[1].image is a data URI without a comma before its data",
    )


@pytest.mark.parametrize("text", ["", "  \n", "====", "data:image/png;base64,", "data:,"])
def test_an_empty_file_is_refused(text: str) -> None:
    """No bytes are no file."""
    assert problem(text) == ("empty_file", "images[1].image is empty")


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("file:///etc/passwd", "file"),
        (" FTP://user:secret@a.de/x.png", "ftp"),
        ("s3://bucket/a.png", "s3"),
        ("gopher://a.de", "gopher"),
        ("file:/etc/passwd", "file"),
        ("https://a.de/x.png", "https"),
    ],
)
def test_a_url_is_no_base64(text: str, scheme: str) -> None:
    """It is said that it is one, and nothing of it but its scheme is shown."""
    assert problem(text) == (
        "url_not_taken",
        f"images[1].image is a URL that begins with {scheme}:, which is not fetched from",
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_limit_is_on_the_decoded_bytes(encoder: str) -> None:
    """As many bytes as allowed pass in every encoding, one more does not."""
    text = ENCODERS[encoder]
    assert decode(text(b"\xff" * 1000), max_bytes=1000) == b"\xff" * 1000
    assert problem(text(b"\xff" * 1001), max_bytes=1000) == (
        "file_too_large",
        "images[1].image holds 1001 bytes, more than the 1000 that one file may have",
    )


def test_the_limit_is_looked_at_before_the_content() -> None:
    """A text that is too long is not decoded at all, so what is wrong inside is not found."""
    assert problem("!" * 4000, max_bytes=1000)[0] == "file_too_large"


@pytest.mark.parametrize(
    "name", ["a.png", "a/b.png", "my picture (1).png", "…ü.png", "a..b.png", ".hidden.png", "x" * 255]
)
def test_a_plain_name_is_fine(name: str) -> None:
    """A file name, also one in a subfolder, is a good label."""
    check_name(name, path="images[0].name")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("x" * 256, "has 256 characters, more than the 255 that a file's name may have"),
        ("/etc/passwd", "is an absolute path"),
        ("C:/a.png", "is an absolute path"),
        ("a\\b.png", "has a backslash in it"),
        ("../../x", "leads out of its folder"),
        ("a/../b.png", "leads out of its folder"),
        ("a/", "names a folder, not a file"),
        ("a\0.png", "has a control character in it"),
        ("a\n.png", "has a control character in it"),
        ("a\ud800.png", "has a control character in it"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(name: str, fault: str) -> None:
    """The problem says what is wrong with the name."""
    with pytest.raises(InvalidRequest) as caught:
        check_name(name, path="images[0].name")
    assert caught.value.message.startswith(f"images[0].name {fault}")
    assert caught.value.problems[0].code == "invalid_name"


@pytest.mark.parametrize("name", ["https://a.de/x.png?sig=1", "http://a.de/" + "x" * 4000])
def test_a_url_may_be_a_name(name: str) -> None:
    """The workflow may call a file by its URL."""
    check_name(name, path="images[0].name")


def test_a_url_that_is_no_name_is_not_shown() -> None:
    """One that is too long is refused, without what it holds."""
    with pytest.raises(InvalidRequest) as caught:
        check_name("http://a/?secret" + "x" * 9000, path="images[0].name")
    assert caught.value.message == ("images[0].name has 9016 characters, more than the 255 that a file's name may have")
