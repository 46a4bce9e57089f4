"""Run a load test: clients in one event loop, over their own connections."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import grpc

from progan_client.channel import IMAGE_OPTIONS, Settings
from progan_client.errors import ResourceExhaustedError, ServiceError
from progan_client.load.plan import Load, due_times
from progan_client.load.report import Answer, Report
from progan_client.load.summary import progress_line
from progan_client.obstacle import explained_aside
from progan_client.replies import stage_times
from progan_client.translation import translated
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PAUSE_S = 0.1  # of a client in a closed loop after a failure, so that it does not flood an unreachable service
PROGRESS_S = 0.5  # between two progress lines

Send = Callable[[int], Awaitable[Answer]]  # sends call n
Show = Callable[[str], None]
Clock = Callable[[], float]  # returns the seconds since the start of the load


def run_load(load: Load, request: pb.GenerateRequest, settings: Settings, show: Show | None = None) -> Report:
    """Put `load` on the service of `settings` and return the report.

    `request` has the first seed; each call continues with the next seeds. `show` receives a progress line every
    PROGRESS_S seconds, and an empty line at the end. Before the load starts, each connection makes one call. If it
    fails, its ServiceError is raised, except ResourceExhaustedError. Ctrl-C ends the load without calls in flight.
    """
    # epoll waits for whole milliseconds, select for microseconds: calls are sent on time.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_run(load, request, settings, show))


async def _run(load: Load, request: pb.GenerateRequest, settings: Settings, show: Show | None) -> Report:
    report = Report(settings.target, load)
    channels = [_channel(settings, load.retries) for _ in range(load.connections)]
    try:
        sends = [_sender(channel, request, settings, load.timeout_s) for channel in channels]
        for send in sends:
            async with explained_aside(settings):
                with suppress(ResourceExhaustedError):  # a load test is for busy services, too
                    await send(0)
        await drive(load, sends, report, show)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return report


async def drive(load: Load, sends: list[Send], report: Report, show: Show | None = None) -> None:
    """Send calls with `sends` as `load` says and fill the report. Cancelling ends the load early.

    The latency of a call starts when it is due. In an open loop, a call can be due while all clients wait for a slow
    service. It is then sent late and its waiting time counts, so a slow service cannot hide calls ("coordinated
    omission").
    """
    clock = asyncio.get_running_loop().time
    start = clock()

    def now() -> float:
        return clock() - start

    calls = enumerate(due_times(load, now), start=1)
    clients = [asyncio.create_task(_client(calls, sends[i % len(sends)], report, now)) for i in range(load.clients)]
    progress = asyncio.create_task(_show_progress(report, now, show)) if show else None
    try:
        await asyncio.wait(clients, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        report.interrupted = True  # gRPC may swallow the cancellation of a call; this ends its client anyway
    finally:
        for task in clients:
            task.cancel()
        outcomes = await asyncio.gather(*clients, return_exceptions=True)
        if show and progress:
            progress.cancel()
            show("")
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _client(calls: Iterator[tuple[int, float]], send: Send, report: Report, now: Clock) -> None:
    """Send one call after another. All clients share `calls`, which yields the number and due time of each call."""
    for number, due in calls:
        if report.interrupted:
            return
        if report.load.is_too_late(due, now()):
            report.not_sent(due)
            continue
        if (early_s := due - now()) > 0:
            await asyncio.sleep(early_s)
        report.sent(due, now())
        try:
            answer = await send(number)
        except ServiceError as error:
            report.failed(due, now(), error.code.name, str(error))
            if report.load.rate is None:
                await asyncio.sleep(PAUSE_S)
        else:
            report.answered(due, now(), answer)


async def _show_progress(report: Report, now: Clock, show: Show) -> None:
    while True:
        show(progress_line(report, now()))
        await asyncio.sleep(PROGRESS_S)


def _sender(channel: grpc.aio.Channel, request: pb.GenerateRequest, settings: Settings, timeout_s: float) -> Send:
    """Return a function that makes one call over `channel`. Each call has its own seeds. Pixels are not decoded."""
    generate = pb_grpc.ImageGeneratorServiceStub(channel).Generate
    seeds = request.latents.seed_range

    async def send(number: int) -> Answer:
        call = pb.GenerateRequest()
        call.CopyFrom(request)
        call.latents.seed_range.first_seed = (seeds.first_seed + number * seeds.count) % 2**64
        with translated(settings, timeout_s):
            reply: pb.GenerateResponse = await generate(call, timeout=timeout_s, metadata=settings.metadata)
        return _answer(reply)

    return send


def _answer(reply: pb.GenerateResponse) -> Answer:
    images = reply.images
    return Answer(
        images=images.count,
        size=(images.height, images.width, images.channels),
        model=f"{reply.model.name} version {reply.model.version}",
        times=stage_times(reply.times),
    )


def _channel(settings: Settings, retries: bool) -> grpc.aio.Channel:
    """Return a channel with a connection of its own."""
    options = (*IMAGE_OPTIONS, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", int(retries)))
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.target, options)
    return grpc.aio.secure_channel(settings.target, settings.tls.credentials(), options)
