"""URLs that a request wants us to ask: taken as they are written, or refused in words that show nothing of them."""

import pytest
from yarl import URL

from comfyworker.outbound.targets import TargetRefused, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://a.de/x?sig=%2B%2f", "https://a.de/x?sig=%2B%2f"),
        (" http://a.de:8080/x#part ", "http://a.de:8080/x"),
        ("http://a.de/ü?q=ß", "http://a.de/%C3%BC?q=%C3%9F"),
        ("HTTPS://[2001:db8::1]/", "https://[2001:db8::1]/"),
    ],
)
def test_a_url_is_asked_as_it_is_written(text: str, target: str) -> None:
    """Escapes of a signed URL stay; what needs escaping gets it; a fragment is nobody's to see."""
    assert str(parse_target(text)) == target


@pytest.mark.parametrize(("text", "target"), [("/y?z", "http://a.de/y?z"), ("https://b.de/", "https://b.de/")])
def test_a_redirect_is_read_from_where_it_came(text: str, target: str) -> None:
    """A relative one keeps the host, a whole one may change it."""
    assert str(parse_target(text, URL("http://a.de/x"))) == target


@pytest.mark.parametrize("text", ["", "a.de", "ftp://a.de", "http://", "http://a b/", "http://a.de\\@b.de/", "//a.de"])
def test_what_is_no_url_is_refused(text: str) -> None:
    """So is what two readers would understand differently."""
    with pytest.raises(TargetRefused, match="is not a URL that can be read"):
        parse_target(text)


@pytest.mark.parametrize("text", ["http://user:5ecre7@a.de/", "http://5ecre7@a.de/", "http://@a.de/?5ecre7"])
def test_a_password_is_refused_unless_it_is_allowed(text: str) -> None:
    """A request's URL has none; the operator's may, and the error shows nothing of it."""
    with pytest.raises(TargetRefused) as caught:
        parse_target(text)
    assert caught.value.has_credentials
    assert "5ecre7" not in repr(caught.value)
    assert parse_target(text, allow_credentials=True).host == "a.de"
