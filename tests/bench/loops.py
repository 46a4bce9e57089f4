"""Timed loops: of a bare call, of the clients of a server, and of calls one at a time."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple

import grpc
import numpy as np
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


class Answers(NamedTuple):
    """Calls per second of some clients, and how long a call takes: the median, and the 99th percentile."""

    per_s: float
    median_s: float
    p99_s: float


Ask = Callable[[], Awaitable[object]]
Callers = AbstractAsyncContextManager[list[Ask]]


def answers(callers: Callers, seconds: float) -> Answers:
    """Let each caller call again as soon as it has its reply."""
    return uvloop.run(_answers(callers, seconds))


async def _answers(callers: Callers, seconds: float) -> Answers:
    async with callers as asks:
        started = time.perf_counter()

        async def repeat(ask: Ask) -> list[float]:
            times = [time.perf_counter()]
            while times[-1] - started < seconds:
                await ask()
                times.append(time.perf_counter())
            return list(np.diff(times))

        took = np.concatenate(await asyncio.gather(*map(repeat, asks)))
        per_s = len(took) / (time.perf_counter() - started)
    return Answers(per_s, float(np.median(took)), float(np.quantile(took, 0.99)))


@asynccontextmanager
async def over_grpc(target: str, method: str, request: bytes, count: int) -> AsyncIterator[list[Ask]]:
    """Callers that share a connection."""
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        yield [partial(channel.unary_unary(method), request)] * count


@asynccontextmanager
async def over_http(target: str, request: bytes, count: int) -> AsyncIterator[list[Ask]]:
    """Callers with a connection each. `request` is all of it, head and body."""
    host, port = target.split(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    yield [partial(_exchange, *connection, request) for connection in connections]
    for _, writer in connections:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(header[16:]) for header in headers if header.startswith(b"content-length: "))
    body = await reader.readexactly(length)
    if b" 200 " not in status:
        raise RuntimeError(f"{status!r}: {body[:200]!r}")
    return body


def lone_call_s(call: Callable[[], object], pause_s: float = 0.0) -> float:
    """Return the median time of sequential calls, each after a pause."""
    times = []
    for _ in range(LONE_CALLS):
        time.sleep(pause_s)
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
