"""Which connections are closed when there are too many."""

import socket
from contextlib import ExitStack
from pathlib import Path

from progan_service.host.sockets import Connection
from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc.connections import Callers, ConnectionWatch, above_share, in_the_way
from progan_service.serving.watching.metrics import Metrics


def connections(*addresses: str) -> list[Connection]:
    return [Connection(number, number, address, 50_000 + number) for number, address in enumerate(addresses)]


def test_near_the_limit_the_oldest_idle_ones_make_room() -> None:
    idle = connections(*["a"] * 14)
    assert list(in_the_way(idle, 14, 20)) == []  # 14 of 20: there is room
    assert list(in_the_way(idle, 17, 20)) == []
    assert list(in_the_way(idle, 18, 20)) == idle[:3]  # 15 stay
    assert list(in_the_way(idle[:2], 20, 20)) == idle[:2]  # the others have calls


def test_an_address_above_its_share_loses_idle_connections_first() -> None:
    one, two, three, four, five, six = connections("a", "a", "b", "a", "a", "b")
    assert above_share([one, two, three], [four, five, six], 0) == []
    assert above_share([one, two, three], [four, five, six], 4) == []
    assert above_share([one, two, three], [four, five, six], 3) == [one]
    assert above_share([one, two, three], [four, five, six], 2) == [two, one]
    assert above_share([one, two, three], [four, five, six], 1) == [five, three, two, one]


async def test_a_connection_with_a_call_is_no_idle_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        callers, metrics = Callers(), Metrics()
        watch = ConnectionWatch(port, ServerConfig(tmp_path, max_connections=8), callers, metrics)
        sockets = []
        for _ in range(7):
            sockets.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            stack.enter_context(listening.accept()[0])
            if len(sockets) < 7:
                await watch.look()  # so it knows their order
        with callers.calling(f"ipv4:127.0.0.1:{sockets[0].getsockname()[1]}"):
            await watch.look()
        assert sockets[1].recv(1) == b""  # closed
        assert metrics.registry.get_sample_value("progan_connections_closed_total", {"reason": "room"}) == 1
        sockets[0].setblocking(False)
        try:
            sockets[0].recv(1)
        except BlockingIOError:
            pass  # open
        else:
            raise AssertionError("the connection of the call was closed")


def test_a_peer_is_in_use_while_it_calls_and_until_the_next_look() -> None:
    callers = Callers()
    with callers.calling("a"):
        with callers.calling("a"), callers.calling("b"):
            pass
        assert callers.take() == {"a", "b"}
        assert callers.take() == {"a"}
    assert callers.take() == {"a"}
    assert callers.take() == set()
