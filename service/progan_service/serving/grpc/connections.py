"""The connections of the gRPC port: counted, and closed where there are too many.

gRPC accepts connections itself and shows them to nobody, so they are found among the sockets of this process. It also
refuses those above `max_connections`, whoever comes. Before that happens, the watch closes the connections that have
been without a call for longest: idle ones keep no caller out.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from progan_service.host.sockets import Connection, OwnConnections, close
from progan_service.serving.config import ServerConfig
from progan_service.serving.watching.metrics import Metrics

_WARN_EVERY_S = 60

log = logging.getLogger(__name__)


class Callers:
    """Knows which connections are in use. Used in the event loop only. A peer is named as gRPC names it."""

    def __init__(self) -> None:
        self._running = Counter[str]()
        self._recent = set[str]()

    @contextmanager
    def calling(self, peer: str) -> Iterator[None]:
        """Note that the connection has a call within the block."""
        self._running[peer] += 1
        try:
            yield
        finally:
            self._recent.add(peer)
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]

    def take(self) -> set[str]:
        """Return the peers that have had a call since the last time."""
        recent, self._recent = self._recent, set()
        return recent | self._running.keys()


class ConnectionWatch:
    """Looks at the connections again and again, in the event loop; a thread reads the sockets."""

    def __init__(self, port: int, config: ServerConfig, callers: Callers, metrics: Metrics) -> None:
        self._connections = OwnConnections(port)
        self._most, self._most_per_address = config.max_connections, config.max_connections_per_address
        self._callers = callers
        self._metrics = metrics
        self._order: list[int] = []  # numbers; the one without a call for longest comes first
        self._warned_at = float("-inf")

    async def look(self) -> None:
        """Count the connections, and close those that are too many."""
        try:
            found = {connection.number: connection for connection in await asyncio.to_thread(self._connections.open)}
        except OSError:  # no descriptor is left to look with, or this system has no list of them
            return
        used = self._callers.take()  # with those that have begun meanwhile
        order = [found[number] for number in self._order if number in found]
        order += [connection for number, connection in found.items() if number not in self._order]
        idle = [connection for connection in order if _peer(connection) not in used]
        busy = [connection for connection in order if _peer(connection) in used]
        self._order = [connection.number for connection in (*idle, *busy)]
        self._metrics.connections.labels("grpc").set(len(found))
        self._limit(idle, busy)

    def _limit(self, idle: Sequence[Connection], busy: Sequence[Connection]) -> None:
        count = len(idle) + len(busy)
        surplus = above_share(idle, busy, self._most_per_address)
        self._close("address", surplus)
        self._close("room", in_the_way([one for one in idle if one not in surplus], count - len(surplus), self._most))
        if surplus or is_nearly_full(count, self._most):
            self._warn(Counter(connection.address for connection in (*idle, *busy)))

    def _close(self, reason: str, connections: Sequence[Connection]) -> None:
        for connection in connections:
            close(connection)
        self._metrics.connections_closed.labels(reason).inc(len(connections))

    def _warn(self, by_address: "Counter[str]") -> None:
        if time.monotonic() - self._warned_at < _WARN_EVERY_S:
            return
        self._warned_at = time.monotonic()
        [(address, count)] = by_address.most_common(1)
        log.warning(
            "%d gRPC connections are open, %d of them from %s; those that are longest without a call are closed; "
            "max_connections is %d, max_connections_per_address %d",
            by_address.total(),
            count,
            address,
            self._most,
            self._most_per_address,
        )


def is_nearly_full(count: int, most: int) -> bool:
    return count >= most * 7 / 8


def in_the_way(idle: Sequence[Connection], count: int, most: int) -> Sequence[Connection]:
    """Return the idle connections to close so that new ones find room: when nearly full, down to three quarters.

    idle   the one without a call for longest comes first
    """
    return idle[: count - most * 3 // 4] if is_nearly_full(count, most) else ()


def above_share(idle: Sequence[Connection], busy: Sequence[Connection], most: int) -> list[Connection]:
    """Return the connections of each address above `most`, idle ones rather than busy ones; 0 is no limit.

    idle   the one without a call for longest comes first, and is closed first
    """
    if not most:
        return []
    kept = Counter[str]()
    surplus = []
    for connection in (*busy, *reversed(idle)):
        kept[connection.address] += 1
        if kept[connection.address] > most:
            surplus.append(connection)
    return surplus


def _peer(connection: Connection) -> str:
    if ":" in connection.address:
        return f"ipv6:%5B{connection.address}%5D:{connection.port}"
    return f"ipv4:{connection.address}:{connection.port}"
