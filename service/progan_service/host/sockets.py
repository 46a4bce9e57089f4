"""Connections that a library has accepted and shows to nobody, found among the file descriptors of this process."""

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import NamedTuple

_DESCRIPTORS = "/dev/fd"


class Connection(NamedTuple):
    """An open TCP connection.

    number          of its socket in the system
    descriptor      of its socket in this process, as long as it is open
    address, port   of the other side
    """

    number: int
    descriptor: int
    address: str
    port: int


class OwnConnections:
    """The connections that others have opened to one port of this process. Used by one thread at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._others: dict[int, tuple[str, int] | None] = {}  # by number: the other side; None for other sockets

    def open(self) -> list[Connection]:
        """Return the connections that are open now, in any order."""
        descriptors = dict(_sockets())
        for number in self._others.keys() - descriptors.keys():
            del self._others[number]
        for number in descriptors.keys() - self._others.keys():
            with suppress(OSError), _copy(descriptors[number], number) as copy:
                self._others[number] = self._other_side(copy)
        found = [(number, other) for number, other in self._others.items() if other]
        return [Connection(number, descriptors[number], *other) for number, other in found]

    def _other_side(self, copy: socket.socket) -> tuple[str, int] | None:
        if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.getsockname()[1] != self._port:
            return None
        try:
            address, port = copy.getpeername()[:2]
        except OSError:  # the socket that listens, or a connection that has just ended
            return None
        return _plain(address), port


def close(connection: Connection) -> None:
    """End a connection, for whoever uses it as if the other side had ended it."""
    with suppress(OSError), _copy(connection.descriptor, connection.number) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def _sockets() -> Iterator[tuple[int, int]]:
    """Yield number and descriptor of each open socket of this process."""
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError):
            found = os.stat(int(name))
            if stat.S_ISSOCK(found.st_mode):
                yield found.st_ino, int(name)


def _copy(descriptor: int, number: int) -> "closing[socket.socket]":
    """Return the socket under a descriptor of our own, which nobody else closes. Raise OSError if it is another one."""
    own = os.dup(descriptor)
    try:
        if os.stat(own).st_ino != number:
            raise OSError(f"descriptor {descriptor} has been closed and used again")
        return closing(socket.socket(fileno=own))
    except OSError:
        os.close(own)
        raise


def _plain(address: str) -> str:
    """Return an IPv4 address as such, if it came as one of IPv6."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)
