"""Ten times what the server can do, for two minutes.

Its device takes 50 ms for a batch of 4, and 64 rows may wait. So a call that is accepted has at most the batch that
runs, 64 / 4 batches that wait and its own one before its answer: 18 batches at the measured pace.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

BATCH, QUEUED = 4, 64
OPTIONS = ["--max-batch-size", str(BATCH), "--max-queued-rows", str(QUEUED)]
BATCHES_TO_WAIT = 1 + QUEUED // BATCH + 1
SECONDS = 120
TIMEOUT_S = 30
MARGIN = 1.5  # the machine has other work, too

REQUEST = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[1337])))


class Caller:
    """Asks for one image at a time and keeps account."""

    def __init__(self, target: str) -> None:
        channels = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self.channel = grpc.aio.insecure_channel(target, options=channels)
        self._stub = pb_grpc.ImageGeneratorServiceStub(self.channel)
        self.begin()

    def begin(self) -> None:
        """A new account."""
        self.took_s: list[float] = []
        self.refused = 0
        self.faults: list[str] = []

    async def ask(self) -> None:
        started = time.monotonic()
        try:
            await self._stub.Generate(REQUEST, timeout=TIMEOUT_S)
            self.took_s.append(time.monotonic() - started)
        except grpc.aio.AioRpcError as error:
            self.refused += comes_back_later(error)
            if not comes_back_later(error):
                self.faults.append(str(error))

    async def in_a_closed_loop(self, clients: int, seconds: float) -> float:
        """Images a second."""
        self.begin()
        started = time.monotonic()

        async def ask_on() -> None:
            while time.monotonic() - started < seconds:
                await self.ask()

        await asyncio.gather(*(ask_on() for _ in range(clients)))
        return len(self.took_s) / (time.monotonic() - started)

    async def alone_s(self) -> float:
        """The median of fifty calls, one after the other."""
        self.begin()
        for _ in range(50):
            await self.ask()
        return statistics.median(self.took_s)


def comes_back_later(error: Any) -> bool:
    """RESOURCE_EXHAUSTED with RetryInfo and the trailer that gRPC's own retries read."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    retry = error_details_pb2.RetryInfo()
    return (
        error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        and any(detail.Unpack(retry) for detail in status.details)
        and 0 < retry.retry_delay.ToMilliseconds() < TIMEOUT_S * 1000
        and abs(int(trailers["grpc-retry-pushback-ms"]) - retry.retry_delay.ToMilliseconds()) <= 1
    )


async def test_ten_times_the_load_costs_nothing_of_the_goodput_and_leaves_nothing_behind(
    publish_sleeper: Callable[..., Path],
    serve: Callable[..., Any],
    open_loop: Callable[..., Awaitable[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = await asyncio.to_thread(serve, publish_sleeper(batch_s=0.05), *OPTIONS)
    caller = Caller(server.target)
    await caller.in_a_closed_loop(4, 2)
    alone_before = await caller.alone_s()
    peak = await caller.in_a_closed_loop(QUEUED // 2, 15)
    assert (caller.refused, caller.faults) == (0, [])

    caller.begin()
    health, resident_mb = set(), []

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            health.add(await asyncio.to_thread(server.health))
            resident_mb.append(await asyncio.to_thread(server.resident_mb))

    watching = asyncio.create_task(watch())
    started = time.monotonic()
    await open_loop(10 * peak, SECONDS, caller.ask)
    goodput = len(caller.took_s) / (time.monotonic() - started)
    watching.cancel()
    p99_s, refused, faults = statistics.quantiles(caller.took_s, n=100)[-1], caller.refused, caller.faults

    alone_after = await caller.alone_s()
    await caller.channel.close()
    pace_s = BATCH / peak
    with capsys.disabled():
        print(
            f"\npeak {peak:.1f}/s; at {10 * peak:.0f}/s goodput {goodput:.1f}/s ({goodput / peak:.1%}), {refused} "
            f"refused; p99 {p99_s * 1000:.0f} ms of {BATCHES_TO_WAIT * pace_s * 1000:.0f} ms; memory "
            f"{min(resident_mb):.0f} to {max(resident_mb):.0f} MB; alone {alone_before * 1000:.1f} ms before, "
            f"{alone_after * 1000:.1f} ms after"
        )
    assert faults == []
    assert health == {("alive", "SERVING")}
    assert goodput > 0.95 * peak
    assert p99_s < MARGIN * BATCHES_TO_WAIT * pace_s
    assert max(resident_mb[len(resident_mb) // 2 :]) < max(resident_mb[:10]) + 16
    assert alone_after < 2 * alone_before
    assert server.metric("progan_queue_rows") == 0
