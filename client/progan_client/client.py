"""The client for ordinary code; `aio` has the same verbs for asyncio."""

from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import ArrayLike

from progan_client import codec
from progan_client.channel import (
    DEFAULT_TARGET,
    IMAGE_OPTIONS,
    STATE_OPTIONS,
    Options,
    Settings,
    Tls,
    checked_timeout_s,
)
from progan_client.codec import Part, Path
from progan_client.errors import NotFoundError, not_ready_in_time, translated
from progan_client.images import Encoding, Frame, GeneratedImages
from progan_client.models import Model
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


class Client:
    """Asks a ProGAN service for images.

        with Client() as client:
            client.generate(count=16, seed=1337).grid().save("grid.png")

    Making one connects to nothing; the first call does. Threads may share one. Every call has a deadline and raises
    the errors of `progan_client.errors`: ArgumentError before anything is sent, a ServiceError after. What the service
    refuses for now (UNAVAILABLE, RESOURCE_EXHAUSTED) is tried four times before the error arrives.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout_s: float = 30.0,
        stream_timeout_s: float = 3600.0,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        """Hold the address and what goes with every call; see `Settings` and `Tls` in `progan_client.channel`."""
        self._settings = Settings(target, timeout_s, stream_timeout_s, tls, token)
        self._image_channel = _channel(self._settings, IMAGE_OPTIONS)
        self._state_channel = _channel(self._settings, STATE_OPTIONS)
        self._images = pb_grpc.ImageGeneratorServiceStub(self._image_channel)
        self._models = pb_grpc.ImageGeneratorServiceStub(self._state_channel)
        self._health = health_pb2_grpc.HealthStub(self._state_channel)

    def generate(
        self,
        *,
        latents: ArrayLike | None = None,
        seeds: Iterable[int] | None = None,
        count: int | None = None,
        seed: int | None = None,
        labels: ArrayLike | None = None,
        model: str = "",
        version: int | str | None = None,
        encoding: Encoding = "raw",
        quality: int = 0,
        bulk: bool = False,
        timeout_s: float | None = None,
    ) -> GeneratedImages:
        """Images in one reply, in the order asked for; for very many use `stream`.

        Give exactly one of `latents`, `seeds` and `count`:

        `latents`    float [N, L], one row an image; finite, and only the direction of a row matters.
        `seeds`      N integers, 0 to 2**64 - 1, one an image.
        `count`      N images of the seeds `seed`, `seed` + 1, ...; without `seed` of a random one, told in `.seeds`.
        `seed`       the first seed of `count`; alone: one image.

        `labels`     float [K] for all images or [N, K]; only for models with labels.
        `model`      empty: the service's default model.
        `version`    a number, or a label such as "canary"; None: the version that serves.
        `encoding`   how the images travel: "raw", "png", "jpeg" or "webp".
        `quality`    1 to 100 for "jpeg" and "webp"; 0: the service's default, 90.
        `bulk`       nobody waits for it: other calls come first.
        `timeout_s`  deadline in seconds; None: the client's.
        """
        request = codec.generate_request(latents, seeds, count, seed, labels, model, version, encoding, quality, bulk)
        reply: pb.GenerateResponse = self._call(self._images.Generate, request, timeout_s)
        return codec.images_of_reply(reply, request)

    def stream(
        self,
        *,
        latents: ArrayLike | None = None,
        seeds: Iterable[int] | None = None,
        count: int | None = None,
        seed: int | None = None,
        labels: ArrayLike | None = None,
        model: str = "",
        version: int | str | None = None,
        encoding: Encoding = "raw",
        quality: int = 0,
        bulk: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[GeneratedImages]:
        """Any number of images, one or a few at a time, in the order asked for; arguments as in `generate`.

        Arguments are checked at once, the call begins with the first `next`. A slow reader holds the service back;
        closing or dropping the iterator ends the work.
        """
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = codec.stream_generate_request(
            codec.generate_request(latents, seeds, count, seed, labels, model, version, encoding, quality, bulk)
        )
        return self._stream(
            self._images.StreamGenerate, request, deadline_s, lambda part: [codec.images_of_part(part, request)]
        )

    def interpolate(
        self,
        *,
        latents: ArrayLike | None = None,
        seeds: Iterable[int] | None = None,
        frames_between: int = 30,
        path: Path = "spherical",
        loop: bool = False,
        labels: ArrayLike | None = None,
        model: str = "",
        version: int | str | None = None,
        encoding: Encoding = "raw",
        quality: int = 0,
        bulk: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[Frame]:
        """The frames of a walk through latent space, in order; begins and ends like `stream`.

        `latents`, `seeds`   two or more key frames, given in one of the two ways.
        `frames_between`     new frames between neighbours: K key frames and F between make K + (K - 1) * F frames.
        `path`               "spherical" (along the great circle) or "linear".
        `loop`               go on from the last key frame to the first: K * (F + 1) frames, to be repeated for ever.
        `labels`             float [K] for all frames or one row a key frame, interpolated linearly.

        The rest as in `generate`.
        """
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = codec.interpolate_request(
            latents, seeds, frames_between, path, loop, labels, model, version, encoding, quality, bulk
        )
        return self._stream(self._images.Interpolate, request, deadline_s, codec.frames_of_part)

    def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """Every model of the service, by name."""
        reply: pb.ListModelsResponse = self._call(self._models.ListModels, pb.ListModelsRequest(), timeout_s)
        return [codec.model_of_message(model) for model in reply.models]

    def model(self, name: str = "", *, timeout_s: float | None = None) -> Model:
        """One model; empty: the default one. NotFoundError when there is none of this name."""
        reply: pb.GetModelResponse = self._call(self._models.GetModel, pb.GetModelRequest(name=name), timeout_s)
        return codec.model_of_message(reply.model)

    def health(self, model: str = "", *, timeout_s: float | None = None) -> str:
        """Whether the service, or one model of it, is ready.

        Gives "SERVING", "NOT_SERVING" or, for a model that the service does not have, "SERVICE_UNKNOWN".
        """
        try:
            reply: health_pb2.HealthCheckResponse = self._call(
                self._health.Check, codec.health_request(model), timeout_s
            )
        except NotFoundError:
            return codec.UNKNOWN_HEALTH
        return codec.health_of_reply(reply)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return as soon as the service is ready to make images; DeadlineExceededError when it is not in time."""
        ready = grpc.channel_ready_future(self._image_channel)  # READY holds back until the service's health is SERVING
        try:
            ready.result(checked_timeout_s("timeout_s", timeout_s))
        except grpc.FutureTimeoutError as error:
            raise not_ready_in_time(self._settings.target, timeout_s) from error
        finally:
            ready.cancel()

    def close(self) -> None:
        """Let go of the connections; calls in flight end with an error."""
        self._image_channel.close()
        self._state_channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Message, timeout_s: float | None) -> Any:
        deadline_s = self._settings.deadline_s(timeout_s)
        with translated(self._settings.target, deadline_s):
            return method(request, timeout=deadline_s, metadata=self._settings.metadata)

    def _stream(
        self,
        method: Callable[..., Any],
        request: Message,
        deadline_s: float,
        decode: Callable[[Any], Iterable[Part]],
    ) -> Generator[Part]:
        with translated(self._settings.target, deadline_s):
            call = method(request, timeout=deadline_s, metadata=self._settings.metadata)
            try:
                for reply in call:
                    yield from decode(reply)
            finally:  # also when the reader closes or drops the iterator
                call.cancel()


def _channel(settings: Settings, options: Options) -> grpc.Channel:
    if settings.tls is None:
        return grpc.insecure_channel(settings.target, options)
    return grpc.secure_channel(settings.target, settings.tls.credentials(), options)
