"""Callers that cancel, are late, read slowly or die: what is dropped, what is run, what stays in memory."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from progan_client import Client
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PublishSleeper = Callable[..., Path]
Serve = Callable[..., Any]

BATCH = 4
OPTIONS = ["--max-batch-size", str(BATCH), "--max-queued-rows", "1024"]
PATIENCE_S = 120

LATENTS = pb.Latents(seeds=pb.SeedList(seeds=[1337]))
REQUEST = pb.GenerateRequest(latents=LATENTS)
BULK = pb.GenerateRequest(latents=LATENTS, priority=pb.PRIORITY_BULK)


async def test_a_thousand_cancelled_and_a_thousand_late_calls_under_load_are_dropped_and_counted(
    publish_sleeper: PublishSleeper, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """More calls come than can be in time. Those that would be late are refused, and nothing is run for them."""
    server = await asyncio.to_thread(serve, publish_sleeper(batch_s=0.05), *OPTIONS)
    codes: Counter[str] = Counter()
    of_hurried: Counter[str] = Counter()

    async def ask(
        request: pb.GenerateRequest = REQUEST, timeout_s: float = PATIENCE_S, cancel_s: float = PATIENCE_S
    ) -> str:
        call = stub.Generate(request, timeout=timeout_s)
        giving_up = asyncio.get_running_loop().call_later(cancel_s, call.cancel)
        code: str = (await call.code()).name
        codes[code] += 1
        giving_up.cancel()
        return code

    async def wave() -> None:
        hurried = [asyncio.ensure_future(ask(BULK, timeout_s=1.2)) for _ in range(64)]
        await asyncio.sleep(0.1)
        gone = [ask(cancel_s=0.2) for _ in range(64)]
        stay = [ask() for _ in range(100)]
        await asyncio.gather(*gone, *stay)
        of_hurried.update(await asyncio.gather(*hurried))

    waves = 0
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = pb_grpc.ImageGeneratorServiceStub(channel)
        while min(codes["CANCELLED"], of_hurried.total() - of_hurried["OK"]) < 1000:
            await wave()
            waves += 1
            assert waves <= 60
        await ask()
    calls = server.metric("progan_requests_total", method="Generate")
    read = server.metric("progan_requests_total", method="Generate", model="sleeper")
    run, dropped = server.metric("progan_batch_rows_sum"), server.metric("progan_rows_dropped_total")
    with capsys.disabled():
        print(
            f"\n{waves} waves, {dict(codes)}, of hurried ones {dict(of_hurried)}: {calls:.0f} calls, {read:.0f} read, "
            f"{run:.0f} rows run, {dropped:.0f} dropped"
        )
    assert calls <= sum(codes.values())  # who leaves at once is never met
    assert run + dropped == read
    assert set(codes) <= {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert run - codes["OK"] <= 4 * waves * BATCH  # no more than the batches that ran when they left, give or take one


def test_a_slow_reader_of_a_hundred_thousand_images_takes_no_memory_here_or_there(
    publish_sleeper: PublishSleeper, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(publish_sleeper(batch_s=0, resolution=64), "--max-batch-size", "16")
    came, here_mb, there_mb = 0, [], []
    with Client(server.target) as client:
        for part in client.stream(count=100_000, seed=0):  # of 1.2 GB in all
            came += len(part)
            if came % 160 == 0:
                time.sleep(0.05)
            if came % 10_000 == 0:
                here_mb.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
                there_mb.append(server.resident_mb())
    with capsys.disabled():
        print(
            f"\nserver {min(there_mb):.0f} to {max(there_mb):.0f} MB, client {min(here_mb):.0f} to {max(here_mb):.0f}"
        )
    assert came == 100_000
    assert max(there_mb) < there_mb[0] + 32
    assert max(here_mb) < here_mb[0] + 32


READER = """
import sys
from progan_client import Client
for part in Client(sys.argv[1]).stream(count=1_000_000, seed=0):
    print(len(part), flush=True)
"""


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_killed_reader_stops_its_work_within_a_batch_of_each_device(
    publish_sleeper: PublishSleeper, serve: Serve, replicas: int
) -> None:
    store = publish_sleeper(batch_s=0.2)
    server = serve(store, "--max-batch-size", str(BATCH), "--replicas", str(replicas))
    command = [sys.executable, "-c", READER, server.target]
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout
            for _ in range(3):
                assert reader.stdout.readline() == f"{BATCH}\n"
            begun = server.metric("progan_batch_rows_sum")  # the batches that run now are in it
            reader.kill()
        time.sleep(1)
        assert server.metric("progan_batch_rows_sum") <= begun + replicas * BATCH
        assert server.metric("progan_queue_rows") == 0
