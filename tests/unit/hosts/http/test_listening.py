"""The socket that the server listens on."""

import socket

import pytest
from pydantic import SecretStr

from comfyworker.errors import InvalidSettings
from comfyworker.hosts.http.listening import bind, check_exposure, url_of
from comfyworker.settings import HttpSettings


def test_a_free_port_is_told() -> None:
    """Port 0 takes a free one, and the URL says which."""
    with bind(HttpSettings(port=0)) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_its_connections_know_their_protocol() -> None:
    """Or asyncio would leave Nagle's algorithm on, and answers would wait 40 ms for an acknowledgement."""
    with bind(HttpSettings(port=0)) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_all_addresses_are_reached_by_one() -> None:
    """The URL of a server on all addresses is one that works."""
    with bind(HttpSettings(host="0.0.0.0", port=0, allow_anybody=True)) as bound:
        assert url_of(bound).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_here(host: str) -> None:
    """An address of another machine, and a name of none, are told with what to do."""
    with (
        pytest.raises(InvalidSettings, match="cannot listen") as caught,
        bind(HttpSettings(host=host, port=0, allow_anybody=True)),
    ):
        pass
    assert "--host" in str(caught.value.hint)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "worker.example"])
def test_others_need_a_key(host: str) -> None:
    """Without keys only this machine is served, unless it is said that anybody may."""
    with pytest.raises(InvalidSettings, match="no API_KEYS"):
        check_exposure(HttpSettings(host=host))
    check_exposure(HttpSettings(host=host, allow_anybody=True))
    check_exposure(HttpSettings(host=host, api_keys=(SecretStr("some-long-key"),)))
