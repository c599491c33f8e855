"""Which network addresses a request may have us speak to: public ones, so that none reaches our neighbours."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Address = IPv4Address | IPv6Address
_Networks = tuple[IPv4Network | IPv6Network, ...]


def _networks(*texts: str) -> _Networks:
    return tuple(ip_network(text) for text in texts)


_METADATA = _networks(
    "169.254.169.254",  # AWS, Google, Azure, DigitalOcean and most others
    "169.254.170.0/24",  # AWS ECS and EKS
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle
    "168.63.129.16",  # Azure, which took a public address for it
    "fd00:ec2::/32",  # AWS over IPv6
    "fd20:ce::254",  # Google over IPv6
)
# Not `is_loopback` and the like, which newer Pythons also say of IPv6 addresses that embed such an IPv4 address.
_LOOPBACK = _networks("127.0.0.0/8", "::1")
_CARRIER = _networks("100.64.0.0/10")
_PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_EMBEDDING = _networks(
    "::/96",  # IPv4-compatible
    "::ffff:0:0/96",  # IPv4-mapped
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64 of a network's own
    "2001::/32",  # Teredo
    "2002::/16",  # 6to4
)
# What not every Python's `ipaddress` knows to be set aside.
_RESERVED = _networks(
    "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "2001:db8::/32", "3fff::/20", "fec0::/10"
)
_IN_USE_V6 = _networks("2000::/3")


def host_refusal(host: str, *, allow_private: bool) -> str | None:
    """Return what speaks against a host that is an address already; names are looked at when they are resolved."""
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return refusal(host, allow_private=allow_private)


def refusal(address: str, *, allow_private: bool) -> str | None:
    """Return what speaks against a connection to `address`, as `a loopback address`; None if nothing does.

    Args:
        address: A numeric IPv4 or IPv6 address; anything else is refused.
        allow_private: Take the addresses of this machine and of private networks. What serves a cloud's own machines,
            or is no address of a server, is refused even then.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "what is no address"
    if _is_in(found, _METADATA):
        return "an address of a cloud's metadata"
    private = _private_kind(found)
    if private is not None:
        return None if allow_private else private
    return _unusable_kind(found)


def _private_kind(address: _Address) -> str | None:
    if _is_in(address, _LOOPBACK):
        return "a loopback address"
    if _is_in(address, _CARRIER):
        return "an address of a carrier's private network"
    return "a private address" if _is_in(address, _PRIVATE) else None


def _unusable_kind(address: _Address) -> str | None:
    if address.is_unspecified:
        return "the unspecified address"
    if _is_in(address, _EMBEDDING):
        return "an IPv6 address that stands for an IPv4 address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    is_in_use = address.version == 4 or _is_in(address, _IN_USE_V6)
    if not is_in_use or address.is_reserved or not address.is_global or _is_in(address, _RESERVED):
        return "a reserved address"
    return None


def _is_in(address: _Address, networks: _Networks) -> bool:
    return any(address in network for network in networks)
