"""Addresses that a request may have us speak to, by the blocks that the IANA has set aside."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.outbound.addresses import host_refusal, refusal

SET_ASIDE_V4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
SET_ASIDE_V6 = [
    "::/8",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"])
def test_public_addresses_are_taken(address: str) -> None:
    """Nothing speaks against them."""
    assert refusal(address, allow_private=False) is None


@pytest.mark.parametrize("block", SET_ASIDE_V4 + SET_ASIDE_V6)
def test_blocks_that_are_set_aside_are_refused(block: str) -> None:
    """Their first and last address are, and one in between."""
    network = ipaddress.ip_network(block)
    for address in (network[0], network[network.num_addresses // 3], network[-1]):
        assert refusal(str(address), allow_private=False) is not None


@given(st.ip_addresses(v=4).filter(lambda address: int(address) > 1))
def test_no_way_of_embedding_opens_an_ipv4_address(address: ipaddress.IPv4Address) -> None:
    """Within IPv6, every IPv4 address is refused, whatever it is."""
    number = int(address)
    embedded = [number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
    reasons = {refusal(str(ipaddress.IPv6Address(value)), allow_private=True) for value in embedded}
    assert reasons == {"an IPv6 address that stands for an IPv4 address"}


@given(st.ip_addresses())
def test_private_ones_are_a_choice(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Opening private networks opens nothing else, and closes nothing."""
    strict, loose = (refusal(str(address), allow_private=choice) for choice in (False, True))
    private = {"a loopback address", "a private address", "an address of a carrier's private network"}
    assert loose == (None if strict in private else strict)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f.1", "1.1.1.1/8", "::1::"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Names and odd spellings never come through here as addresses."""
    assert refusal(text, allow_private=True) == "what is no address"


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"]
)
def test_metadata_is_always_refused(address: str) -> None:
    """A cloud's metadata hold the keys of the machine."""
    assert refusal(address, allow_private=True) == "an address of a cloud's metadata"


def test_a_zone_changes_nothing() -> None:
    """An IPv6 address with its interface is judged without."""
    assert refusal("fe80::1%eth0", allow_private=True) == "a link-local address"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "a loopback address"),
        ("localhost", "a loopback address"),
        ("s3.localhost", "a loopback address"),
        ("10.1.2.3", "a private address"),
        ("169.254.169.254", "an address of a cloud's metadata"),
        ("::1", "a loopback address"),
        ("8.8.8.8", None),
        ("s3.example.com", None),
    ],
)
def test_a_host_that_is_an_address_is_looked_at_at_once(host: str, expected: str | None) -> None:
    """A name has to be resolved first."""
    assert host_refusal(host, allow_private=False) == expected
