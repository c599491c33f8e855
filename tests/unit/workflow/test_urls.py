"""URLs in the place of files: which texts are some, and what is shown of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.workflow import file_name, is_url, shown_name, shown_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a.de/x.png", True),
        ("  HTTPS://a.de/x.png", True),
        ("https://", True),
        ("ftp://a.de/x.png", False),
        ("data:image/png;base64,aaaa", False),
        ("a cat, see http://a.de/x.png", False),
        ("http:/a.de", False),
        ("x.png", False),
        ("", False),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    """A text that begins as an http or https URL is one; a text that mentions one is not."""
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://a.de/{SECRET}/x.png?X-Amz-Signature={SECRET}#{SECRET}", "https://a.de/…"),
        (f"http://user:{SECRET}@a.de:8443/x", "http://a.de:8443/…"),
        (f"http://[::1]:80/?{SECRET}", "http://[::1]:80/…"),
        (f"  HTTP://A.de?{SECRET}", "http://a.de/…"),
        (f"https://a.de:port?{SECRET}", "a URL"),
        (f"https://[::1?{SECRET}", "a URL"),
        (f"https://?{SECRET}", "a URL"),
        (f"https://a.de&sig={SECRET}", "a URL"),
        (f"https://{'a' * 200}/", "a URL"),
    ],
)
def test_only_the_host_is_shown(url: str, expected: str) -> None:
    """Neither password nor path nor query is; a host that does not look like one is not shown either."""
    assert shown_url(url) == expected


@given(st.text(), st.text())
def test_any_text_can_be_shown(start: str, rest: str) -> None:
    """Whatever stands in the place of a URL, showing it fails never, nor shows what follows a question mark."""
    shown = shown_url(f"https://{start}?{SECRET}{rest}")
    assert SECRET not in shown


def test_names_are_shown_whole() -> None:
    """Only a name that is a URL is cut."""
    assert [shown_name("a b.png"), shown_name("https://a.de/x?y")] == ["a b.png", "https://a.de/…"]


def test_the_name_of_a_file() -> None:
    """A URL's is the last part of its path."""
    names = ["a/b.png", "https://a.de/b/c.png?x=d.mp4", "https://a.de", "https://[::1/c.png"]
    assert [file_name(name) for name in names] == ["a/b.png", "c.png", "", ""]
