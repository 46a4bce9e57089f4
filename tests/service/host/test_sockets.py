"""Connections found among the descriptors of this process, as a library would have accepted them."""

import socket
from contextlib import ExitStack

import pytest

from progan_service.host.sockets import Connection, OwnConnections, close


@pytest.mark.parametrize(
    ("family", "host", "seen"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_connections_to_a_port_are_found_and_can_be_ended(family: socket.AddressFamily, host: str, seen: str) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        listening.bind((host, 0))
        listening.listen()
        address = listening.getsockname()
        connections = OwnConnections(address[1])
        assert connections.open() == []

        caller = stack.enter_context(socket.socket(family))
        caller.connect(address)
        accepted = stack.enter_context(listening.accept()[0])
        [found] = connections.open()
        assert found == Connection(found.number, accepted.fileno(), seen, caller.getsockname()[1])

        close(found)
        assert (caller.recv(1), accepted.recv(1)) == (b"", b"")  # both see that the other has gone
        accepted.close()
        assert connections.open() == []


def test_a_descriptor_that_is_used_again_is_left_alone() -> None:
    here, there = socket.socketpair()
    with here, there:
        close(Connection(number=0, descriptor=here.fileno(), address="192.0.2.1", port=1))
        here.sendall(b"still open")
        assert there.recv(100) == b"still open"
