"""Puts load on a service and measures: clients in one event loop, over connections of their own."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from contextlib import suppress

import grpc

from progan_client.channel import IMAGE_OPTIONS, Settings
from progan_client.errors import ResourceExhaustedError, ServiceError, translated
from progan_client.images import StageTimes
from progan_client.load_plan import Load, due_times
from progan_client.load_report import Answer, Report, progress_line
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PAUSE_S = 0.1  # of a closed loop's client after a failure: where nobody is, asking again at once measures nothing
PROGRESS_S = 0.5

Ask = Callable[[int], Awaitable[Answer]]
Tell = Callable[[str], None]


def run_load(load: Load, request: pb.GenerateRequest, settings: Settings, tell: Tell | None = None) -> Report:
    """Put `load` on the service of `settings` and report what came of it.

    `request` is what is asked, for consecutive seeds of which it names the first. `tell` hears of the progress,
    and an empty line at its end.
    One call over each connection comes first: what it fails with is raised, a ServiceError, unless the service is
    only busy. Ctrl-C ends the load; calls in flight are not counted then.
    """
    # epoll waits for whole milliseconds, select for microseconds: calls leave when they are due.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_run(load, request, settings, tell))


async def _run(load: Load, request: pb.GenerateRequest, settings: Settings, tell: Tell | None) -> Report:
    report = Report(settings.target, load)
    channels = [_channel(settings, load.retries) for _ in range(load.connections)]
    try:
        asks = [_asker(channel, request, settings, load.timeout_s) for channel in channels]
        for ask in asks:
            with suppress(ResourceExhaustedError):  # a busy service is what a load test is about
                await ask(0)
        await drive(load, asks, report, tell)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return report


async def drive(load: Load, asks: list[Ask], report: Report, tell: Tell | None = None) -> None:
    """Call `asks`, which take the number of the call, as `load` says and fill the report; cancelling ends it early.

    Latency counts from when a call was due. In an open loop a service that stalls delays calls that are due meanwhile,
    and their waiting counts, although they were not sent yet: nothing is left out because the service was slow
    ("coordinated omission").
    """
    clock = asyncio.get_running_loop().time
    start = clock()

    def now() -> float:
        return clock() - start

    calls = enumerate(due_times(load, now), start=1)

    async def client(ask: Ask) -> None:
        for number, due in calls:
            if report.interrupted:
                return
            if load.is_too_late(due, now()):
                report.not_sent(due)
                continue
            if (early_s := due - now()) > 0:
                await asyncio.sleep(early_s)
            report.sent(due, now())
            try:
                answer = await ask(number)
            except ServiceError as error:
                report.failed(due, now(), error.code.name, str(error))
                if load.rate is None:
                    await asyncio.sleep(PAUSE_S)
            else:
                report.answered(due, now(), answer)

    async def show(tell: Tell) -> None:
        while True:
            tell(progress_line(report, now()))
            await asyncio.sleep(PROGRESS_S)

    progress = asyncio.create_task(show(tell)) if tell else None
    clients = [asyncio.create_task(client(asks[index % len(asks)])) for index in range(load.clients)]
    try:
        await asyncio.wait(clients, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        report.interrupted = True  # gRPC may swallow the cancellation of a call: its client ends all the same
    finally:
        for task in clients:
            task.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
        if tell and progress:
            progress.cancel()
            tell("")
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome


def _asker(channel: grpc.aio.Channel, request: pb.GenerateRequest, settings: Settings, timeout_s: float) -> Ask:
    """Calls over one connection, each for seeds of its own; pixels are received and not looked at."""
    generate = pb_grpc.ImageGeneratorServiceStub(channel).Generate
    seeds = request.latents.seed_range

    async def ask(number: int) -> Answer:
        call = pb.GenerateRequest()
        call.CopyFrom(request)
        call.latents.seed_range.first_seed = (seeds.first_seed + number * seeds.count) % 2**64
        with translated(settings.target, timeout_s):
            reply: pb.GenerateResponse = await generate(call, timeout=timeout_s, metadata=settings.metadata)
        return _answer(reply)

    return ask


def _answer(reply: pb.GenerateResponse) -> Answer:
    images, times = reply.images, reply.times
    return Answer(
        images=images.count,
        size=(images.height, images.width, images.channels),
        model=f"{reply.model.name} version {reply.model.version}",
        times=StageTimes(
            queue_s=times.queue.ToNanoseconds() / 1e9,
            inference_s=times.inference.ToNanoseconds() / 1e9,
            encode_s=times.encode.ToNanoseconds() / 1e9,
        ),
    )


def _channel(settings: Settings, retries: bool) -> grpc.aio.Channel:
    """A connection that no other channel shares."""
    options = (*IMAGE_OPTIONS, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", int(retries)))
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.target, options)
    return grpc.aio.secure_channel(settings.target, settings.tls.credentials(), options)
