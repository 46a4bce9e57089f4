"""The client for asyncio, with the methods of `client.Client`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from progan_client import replies, requests
from progan_client.arguments import GenerateArguments, InterpolateArguments, InvertArguments
from progan_client.channel import (
    DEFAULT_TARGET,
    IMAGE_OPTIONS,
    STATE_OPTIONS,
    Options,
    Settings,
    Tls,
)
from progan_client.checks import checked_timeout_s
from progan_client.errors import NotFoundError, ProganError
from progan_client.images import Frame, GeneratedImages
from progan_client.inversion import Inversion, InversionReport
from progan_client.models import Model
from progan_client.obstacle import explained_aside, obstacle
from progan_client.pictures import Picture
from progan_client.replies import Part
from progan_client.requests import REPORT_EVERY
from progan_client.stream import Stream, cancelled_at_the_end
from progan_client.translation import not_ready_in_time, translated
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


class AsyncClient:
    """Request images from a ProGAN service without blocking the event loop.

        async with AsyncClient() as client:
            images = await client.generate(count=16, seed=1337)
        images.grid().save("grid.png")

    Create it inside the event loop that uses it. Arguments, results and errors are those of `Client`. Cancelling a task
    ends its call on the service. To end a stream early, close its iterator: `contextlib.aclosing` does so.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout_s: float = 30.0,
        stream_timeout_s: float = 3600.0,
        tls: Tls | None = None,
        token: str = "",
        allow_plain_token: bool = False,
    ) -> None:
        """Set the address, deadlines and credentials; see `Settings` and `Tls` in `progan_client.channel`."""
        self._settings = Settings(target, timeout_s, stream_timeout_s, tls, token, allow_plain_token)
        self._image_channel = _channel(self._settings, IMAGE_OPTIONS)
        self._state_channel = _channel(self._settings, STATE_OPTIONS)
        self._images = pb_grpc.ImageGeneratorServiceStub(self._image_channel)
        self._models = pb_grpc.ImageGeneratorServiceStub(self._state_channel)
        self._health = health_pb2_grpc.HealthStub(self._state_channel)

    async def generate(
        self, *, timeout_s: float | None = None, **arguments: Unpack[GenerateArguments]
    ) -> GeneratedImages:
        """Return images in one reply; see `Client.generate` for the arguments."""
        request = requests.generate_request(**arguments)
        reply: pb.GenerateResponse = await self._call(self._images.Generate, request, timeout_s)
        return replies.images_of_reply(reply, request)

    def stream(
        self, *, timeout_s: float | None = None, **arguments: Unpack[GenerateArguments]
    ) -> AsyncGenerator[GeneratedImages]:
        """Yield any number of images in order, one or a few at a time; see `Client.stream`."""
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = requests.stream_generate_request(requests.generate_request(**arguments))
        stream = Stream(request, requests.row_count(request.latents))
        return self._stream(
            self._images.StreamGenerate, stream, deadline_s, lambda part: [replies.images_of_part(part, request)]
        )

    def interpolate(
        self, *, timeout_s: float | None = None, **arguments: Unpack[InterpolateArguments]
    ) -> AsyncGenerator[Frame]:
        """Yield the frames of a walk through latent space, in order; see `Client.interpolate`."""
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = requests.interpolate_request(**arguments)
        stream = Stream(request, requests.frame_count(request))
        return self._stream(self._images.Interpolate, stream, deadline_s, replies.frames_of_part)

    async def invert(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        progress: Callable[[InversionReport], None] | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[InvertArguments],
    ) -> Inversion:
        """Return the latents whose images are nearest to one to eight pictures; see `Client.invert`."""
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        every = REPORT_EVERY if progress else 0
        request = await asyncio.to_thread(partial(requests.invert_request, pictures, every, **arguments))
        last = {}
        async with explained_aside(self._settings):
            with translated(self._settings, deadline_s):
                call = self._images.Invert(request, timeout=deadline_s, metadata=self._settings.metadata)
                with cancelled_at_the_end(call):
                    async for reply in call:
                        if progress:
                            progress(replies.report_of_reply(reply))
                        if replies.is_end(reply):
                            last[reply.picture] = reply
        return replies.inversion_of_replies(last, len(request.pictures))

    async def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """Return all models of the service, sorted by name."""
        reply: pb.ListModelsResponse = await self._call(self._models.ListModels, pb.ListModelsRequest(), timeout_s)
        return [replies.model_of_message(model) for model in reply.models]

    async def model(self, name: str = "", *, timeout_s: float | None = None) -> Model:
        """Return one model, the default model if the name is empty. Raise NotFoundError for an unknown name."""
        reply: pb.GetModelResponse = await self._call(self._models.GetModel, requests.model_request(name), timeout_s)
        return replies.model_of_message(reply.model)

    async def health(self, model: str = "", *, timeout_s: float | None = None) -> str:
        """Return the health of the service, or of one model; see `Client.health`."""
        try:
            reply: health_pb2.HealthCheckResponse = await self._call(
                self._health.Check, requests.health_request(model), timeout_s
            )
        except NotFoundError:
            return replies.UNKNOWN_HEALTH
        return replies.health_of_reply(reply)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return as soon as the service can make images. Raise DeadlineExceededError after `timeout_s` seconds."""
        try:
            with translated(self._settings, timeout_s):
                async with asyncio.timeout(checked_timeout_s("timeout_s", timeout_s)):
                    await self._image_channel.channel_ready()  # READY only while the service's health is SERVING
        except TimeoutError:
            target = self._settings.target
            found = await asyncio.to_thread(obstacle, target, self._settings.tls)
            raise not_ready_in_time(target, timeout_s, found) from None

    async def close(self) -> None:
        """Close the connections. Calls in flight end with an error."""
        await self._image_channel.close()
        await self._state_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Callable[..., Any], request: Message, timeout_s: float | None) -> Any:
        deadline_s = self._settings.deadline_s(timeout_s)
        async with explained_aside(self._settings):
            with translated(self._settings, deadline_s):
                return await method(request, timeout=deadline_s, metadata=self._settings.metadata)

    async def _stream(
        self, method: Callable[..., Any], stream: Stream, deadline_s: float, decode: Callable[[Any], Iterable[Part]]
    ) -> AsyncGenerator[Part]:
        end_s = time.monotonic() + deadline_s
        while not stream.is_complete:
            try:
                with translated(self._settings, deadline_s):
                    call = method(stream.request, timeout=end_s - time.monotonic(), metadata=self._settings.metadata)
                    with cancelled_at_the_end(call):
                        async for reply in call:
                            stream.arrived(reply)
                            for part in decode(reply):
                                yield part
                stream.ended()
                return
            except ProganError as error:
                async with explained_aside(self._settings):
                    pause_s = stream.pause_s(error, end_s - time.monotonic())
            await asyncio.sleep(pause_s)


def _channel(settings: Settings, options: Options) -> grpc.aio.Channel:
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.target, options)
    return grpc.aio.secure_channel(settings.target, settings.tls.credentials(), options)
