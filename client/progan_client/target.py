"""The address of a service, as gRPC reads it. Pure."""

import re
from ipaddress import ip_address

from progan_client.errors import ArgumentError

_WEB = re.compile(r"(https|http|grpcs|grpc)://", re.IGNORECASE)
_NAMED = re.compile(r"(?:dns|ipv4|ipv6):(?://(?P<authority>[^/]*)/)?(?P<addresses>.*)", re.DOTALL)
_OTHER = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p):.+")  # schemes of gRPC that have no HOST:PORT
_HOST = r"(?P<host>[^\s:/@\[\]]+|\[[^\s/@\[\]]+\])"
_ADDRESS = re.compile(rf"{_HOST}:(?P<port>[0-9]+)")
_WRONG_PORT = re.compile(rf"{_HOST}:[^:/]*")

Address = tuple[str, int]  # host, without brackets, and port


def check_target(target: str) -> None:
    """Raise ArgumentError unless gRPC would connect to what the target says: it takes port 443 for a missing one."""
    if web := _WEB.match(target):
        tls = "; for TLS give tls=Tls()" if web[1].lower().endswith("s") else ""
        raise ArgumentError("target", f"must be HOST:PORT without {web[0]}{tls}", target)
    if not _OTHER.fullmatch(target):
        for address in _addresses(target):
            if rule := _broken_rule(address):
                raise ArgumentError("target", rule, target)


def addresses(target: str) -> list[Address]:
    """Return hosts and ports of a target; none for a socket file and the like."""
    found = [_ADDRESS.fullmatch(address) for address in _addresses(target)]
    return [(match["host"].strip("[]"), int(match["port"])) for match in found if match]


def is_this_machine(target: str) -> bool:
    """Return whether calls to the target never cross a network."""
    if target.startswith("unix"):
        return True
    named = _NAMED.fullmatch(target)
    if named and named["authority"]:  # another name server may know another localhost
        return False
    return all(_is_loopback(host) for host, _ in addresses(target))


def _addresses(target: str) -> list[str]:
    named = _NAMED.fullmatch(target)
    return named["addresses"].split(",") if named else [target]


def _broken_rule(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if match and 1 <= int(match["port"]) <= 65535:
        return ""
    if _WRONG_PORT.fullmatch(address):
        return "must be HOST:PORT with a port of 1 to 65535"
    if "/" in address:
        return "must be HOST:PORT without a path"
    if address.count(":") > 1:
        return "must be [ADDRESS]:PORT for an IPv6 address"
    return "must be HOST:PORT"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
