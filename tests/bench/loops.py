"""Timed loops: of a bare call, of the clients of a server, and of calls one at a time."""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import grpc
import uvloop
from servers import Server

from progan_client.channel import SERVICE

METHOD = f"/{SERVICE}/Generate"
LONE_CALLS = 100


class Loop(NamedTuple):
    """Calls per second, and CPU seconds per call of this process and of the server."""

    per_s: float
    own_cpu_s: float
    server_cpu_s: float


def bare_loop(call: Callable[[], object], seconds: float) -> Loop:
    """Repeat a call without a server."""
    count, started, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        call()
        count += 1
    return Loop(count / (time.perf_counter() - started), (time.process_time() - cpu_s) / count, 0.0)


def client_loop(server: Server, request: bytes, clients: int, seconds: float) -> Loop:
    """Run clients that share a connection and call again as soon as they have their reply."""
    return uvloop.run(_client_loop(server, request, clients, seconds))


async def _client_loop(server: Server, request: bytes, clients: int, seconds: float) -> Loop:
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = channel.unary_unary(METHOD)
        await channel.channel_ready()
        started, cpu_s, server_cpu_s = time.perf_counter(), time.process_time(), server.cpu_s()

        async def client() -> int:
            count = 0
            while time.perf_counter() - started < seconds:
                await call(request)
                count += 1
            return count

        count = sum(await asyncio.gather(*(client() for _ in range(clients))))
        return Loop(
            count / (time.perf_counter() - started),
            (time.process_time() - cpu_s) / count,
            (server.cpu_s() - server_cpu_s) / count,
        )


def lone_call_s(call: Callable[[], object], pause_s: float = 0.0) -> float:
    """Return the median time of sequential calls, each after a pause."""
    times = []
    for _ in range(LONE_CALLS):
        time.sleep(pause_s)
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
