"""A minute of requests that are far too large and of readers that stop, from one address: what the others notice."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

SERVICE = "progan.v1.ImageGeneratorService"
SECONDS = 60
OPTIONS = ["--stall-s", "2", "--max-batch-size", "4"]

HUGE = pb.StreamGenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[1] * 4_000_000))).SerializeToString()
ENDLESS = pb.StreamGenerateRequest(latents=pb.Latents(seed_range=pb.SeedRange(count=1_000_000)))
ONE = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[1337])))


async def test_who_sends_too_much_or_does_not_read_harms_nobody(
    publish_sleeper: Callable[..., Path], serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The model has 256x256 images, and callers that stop hold up to a few MB each."""
    server = await asyncio.to_thread(serve, publish_sleeper(batch_s=0.01, resolution=256), *OPTIONS)
    codes: Counter[str] = Counter()
    took_s, there_mb = [], []
    end = time.monotonic() + SECONDS

    async def send_too_much() -> None:
        async with grpc.aio.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while time.monotonic() < end:
                call = channel.unary_stream(f"/{SERVICE}/StreamGenerate")(HUGE)
                codes[f"huge {(await call.code()).name}"] += 1

    async def stop_reading() -> None:
        async with grpc.aio.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while time.monotonic() < end:
                call = pb_grpc.ImageGeneratorServiceStub(channel).StreamGenerate(ENDLESS)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()
                    await asyncio.sleep(15)  # after what fits into the buffers of both sides
                call.cancel()

    async def ask() -> None:
        async with grpc.aio.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while time.monotonic() < end:
                began = time.monotonic()
                await pb_grpc.ImageGeneratorServiceStub(channel).Generate(ONE, timeout=30)
                took_s.append(time.monotonic() - began)
                there_mb.append(server.resident_mb())
                await asyncio.sleep(0.2)

    await asyncio.gather(*[send_too_much() for _ in range(5)], *[stop_reading() for _ in range(30)], ask())
    stalled = server.metric("progan_stalled_readers_total")
    with capsys.disabled():
        print(f"\n{dict(codes)}, {stalled:.0f} readers stalled")
        print(f"{len(took_s)} others took up to {max(took_s):.2f} s; the server {max(there_mb):.0f} MB")
    assert codes["huge INVALID_ARGUMENT"] > 10
    assert stalled > 10
    assert len(took_s) > SECONDS / 2
    assert max(there_mb) < there_mb[0] + 600
