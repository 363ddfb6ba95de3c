"""Which addresses only those inside can reach, so that a provider is not to be looked for there."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an address of IPv4
_AZURE: Final = IPv4Address("168.63.129.16")  # metadata of virtual machines, at a public address


def is_private(host: str) -> bool:
    """Whether *host* is an address that is not for all the world, or "localhost"; other names are not."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
    return any(not told.is_global or told.is_multicast or told == _AZURE for told in _unwrap(address))


def _unwrap(address: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return where *address* leads: those of IPv6 may hold others of IPv4."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:  # not every Python looks into it
        return (address.ipv4_mapped,)
    if address in _TRANSLATED:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    return (address, *(address.teredo or ()))
