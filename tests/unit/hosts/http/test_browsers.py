"""Web pages reach a server without keys only if they are its own, or listed."""

import pytest
from pydantic import SecretStr

from comfyworker.errors import Forbidden
from comfyworker.hosts.http.browsers import check_origin, is_loopback
from comfyworker.settings import HttpSettings

OPEN = HttpSettings()
PROXIED = HttpSettings(public_url="https://worker.example/api")
TRUSTED = HttpSettings(host="0.0.0.0", allow_anybody=True)
LISTED = HttpSettings(cors_origins=("https://page.example",))
KEYED = HttpSettings(host="0.0.0.0", api_keys=(SecretStr("some-long-key"),))
LOCAL = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("settings", "method", "headers"),
    [
        pytest.param(OPEN, "POST", {"host": LOCAL}, id="a program"),
        pytest.param(OPEN, "POST", {"host": "localhost:8000", "origin": "http://localhost:8000"}, id="our own page"),
        pytest.param(OPEN, "GET", {"host": LOCAL, "origin": "https://evil.example"}, id="reading, which CORS guards"),
        pytest.param(OPEN, "POST", {"host": "[::1]:8000"}, id="IPv6"),
        pytest.param(PROXIED, "POST", {"host": "worker.example"}, id="the public name"),
        pytest.param(TRUSTED, "POST", {"host": "any.example"}, id="something in front checks"),
        pytest.param(LISTED, "POST", {"host": LOCAL, "origin": "https://page.example"}, id="a page that is listed"),
        pytest.param(KEYED, "POST", {"host": "any.example", "origin": "https://evil.example"}, id="keys decide"),
    ],
)
def test_it_lets_through(settings: HttpSettings, method: str, headers: dict[str, str]) -> None:
    """Programs, our own page, the listed ones, and whoever a key or something in front vouches for."""
    check_origin(method, headers, settings)


@pytest.mark.parametrize(
    ("settings", "method", "headers"),
    [
        pytest.param(OPEN, "POST", {"host": LOCAL, "origin": "https://evil.example"}, id="another page"),
        pytest.param(OPEN, "POST", {"host": LOCAL, "origin": "http://127.0.0.1:3000"}, id="another port"),
        pytest.param(OPEN, "POST", {"host": LOCAL, "origin": "null"}, id="a sandboxed page"),
        pytest.param(OPEN, "GET", {"host": "evil.example:8000"}, id="a name that points here"),
        pytest.param(OPEN, "GET", {"host": "127.0.0.1.evil.example"}, id="a name that looks like an address"),
        pytest.param(OPEN, "GET", {}, id="no host"),
        pytest.param(TRUSTED, "POST", {"host": "a.example", "origin": "https://evil.example"}, id="behind a proxy"),
        pytest.param(LISTED, "POST", {"host": LOCAL, "origin": "https://other.example"}, id="not listed"),
    ],
)
def test_it_refuses(settings: HttpSettings, method: str, headers: dict[str, str]) -> None:
    """Pages of other origins, and names of others that point at this machine."""
    with pytest.raises(Forbidden):
        check_origin(method, headers, settings)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("127.evil.example", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    """Only addresses that no other machine reaches."""
    assert is_loopback(host) is expected
