"""Calls to a real server in an open loop: they come when they are due, whatever becomes of those before."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import grpc
from calls import INFINITY, Asked

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.batching.work import Priority

METHOD = "/progan.v1.ImageGeneratorService/Generate"

_UNSHARED = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


@dataclass
class Answers:
    """What a caller got: images asked for, images that came in time, how long such calls took, and all codes."""

    asked: int = 0
    useful: int = 0
    took_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)


async def ask(target: str, calls: list[Asked], tokens: dict[str, str] | None = None) -> dict[str, Answers]:
    """Make the calls and return what each caller got. `tokens` are by caller."""
    answers: dict[str, Answers] = defaultdict(Answers)
    async with grpc.aio.insecure_channel(target, options=_UNSHARED) as channel:
        generate = channel.unary_unary(METHOD)
        requests = {(call.rows, call.priority): _request(call.rows, call.priority) for call in calls}

        async def make(call: Asked, due: float) -> None:
            account, token = answers[call.caller], (tokens or {}).get(call.caller)
            account.asked += call.rows
            try:
                await generate(
                    requests[call.rows, call.priority],
                    timeout=due + call.within_s - time.monotonic() if call.within_s < INFINITY else None,
                    metadata=[("authorization", f"Bearer {token}")] if token else None,
                )
            except grpc.aio.AioRpcError as error:
                account.codes[error.code().name] += 1
            else:
                account.codes["OK"] += 1
                account.useful += call.rows
                account.took_s.append(time.monotonic() - due)

        start, running = time.monotonic(), set[asyncio.Task[None]]()
        for call in calls:
            if (early_s := start + call.at - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            task = asyncio.create_task(make(call, start + call.at))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    return answers


def _request(rows: int, priority: Priority) -> bytes:
    latents = pb.Latents(seed_range=pb.SeedRange(first_seed=7, count=rows))
    priorities = {Priority.INTERACTIVE: pb.PRIORITY_INTERACTIVE, Priority.BULK: pb.PRIORITY_BULK}
    return pb.GenerateRequest(latents=latents, priority=priorities[priority]).SerializeToString()


async def peak_images_per_s(target: str, token: str, seconds: float = 3.0) -> float:
    """Return the images/s that callers without deadlines get when there is always enough to do."""
    metadata, images, end = [("authorization", f"Bearer {token}")], 0, time.monotonic() + seconds
    async with grpc.aio.insecure_channel(target, options=_UNSHARED) as channel:
        generate = channel.unary_unary(METHOD)

        async def ask_on() -> None:
            nonlocal images
            while time.monotonic() < end:
                await generate(_request(16, Priority.INTERACTIVE), metadata=metadata)
                images += 16

        await asyncio.gather(*(ask_on() for _ in range(4)))
    return images / (time.monotonic() - end + seconds)
