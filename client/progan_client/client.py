"""The client for blocking code; `aio` has the same methods for asyncio."""

import time
from collections.abc import Callable, Generator, Iterable
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
from progan_client.obstacle import explained, obstacle
from progan_client.pictures import Picture
from progan_client.replies import Part
from progan_client.requests import REPORT_EVERY
from progan_client.stream import Stream, cancelled_at_the_end
from progan_client.translation import not_ready_in_time, translated
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


class Client:
    """Request images from a ProGAN service.

        with Client() as client:
            client.generate(count=16, seed=1337).grid().save("grid.png")

    A new client does not connect; its first call does. Threads may share a client. Every call has a deadline. A call
    raises the errors of `progan_client.errors`: ArgumentError before anything is sent, ServiceError afterwards. If the
    service refuses a call for now (UNAVAILABLE, RESOURCE_EXHAUSTED), the client tries up to four times.
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

    def generate(self, *, timeout_s: float | None = None, **arguments: Unpack[GenerateArguments]) -> GeneratedImages:
        """Return images in one reply, in the order of the request. For very many images use `stream`.

        Give exactly one of `latents`, `seeds` and `count`:

        argument     type                default   meaning
        `latents`    float [N, L]                  one row per image; finite, no row all zero
        `seeds`      N integers                    one per image, 0 to 2**64 - 1
        `count`      int                           N images of the seeds `seed`, `seed` + 1, ...
        `seed`       int                 random    first seed of `count`; without `count`: one image

        `label`      str                           name of the class, or of one attribute, of all images
        `labels`     names                         names of the attributes that hold for all images
                     float [K], [N, K]             or the label vector of all images, or one per image
        `edits`      {name: float}       {}        move by so many standard deviations along a direction of the model,
                                                   -4 to 4; the opposite moves back
        `sets`       {name: float}       {}        move to this many standard deviations, likewise
        `hold`       names               ()        directions that edits and sets shall not change
        `model`      str                 ""        name of the model; "": the service's default model
        `version`    int or str          None      number or label such as "canary"; None: the serving version
        `encoding`   str                 "raw"     format on the wire: "raw", "png", "jpeg" or "webp"
        `quality`    int                 0         1 to 100 for "jpeg" and "webp"; 0: the service's default, 90
        `bulk`       bool                False     low priority: the service answers other calls first
        `timeout_s`  float               None      deadline in seconds; None: that of the client

        `GeneratedImages.seeds` contains the seeds, random ones too. For a ProGAN without labels only the direction of
        a latent matters. With labels its length matters as well: it weighs the latent against the label.
        """
        request = requests.generate_request(**arguments)
        reply: pb.GenerateResponse = self._call(self._images.Generate, request, timeout_s)
        return replies.images_of_reply(reply, request)

    def stream(
        self, *, timeout_s: float | None = None, **arguments: Unpack[GenerateArguments]
    ) -> Generator[GeneratedImages]:
        """Yield any number of images in order, one or a few at a time. The arguments are those of `generate`.

        `stream` checks the arguments at once; the call starts with the first `next`. A slow reader slows the service
        down. Closing or dropping the iterator ends the call.

        A stream that breaks after its first image goes on at the next server that has the same version of the model,
        or at the same one when it is back. Each image arrives once. The deadline stays.
        """
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = requests.stream_generate_request(requests.generate_request(**arguments))
        stream = Stream(request, requests.row_count(request.latents))
        return self._stream(
            self._images.StreamGenerate, stream, deadline_s, lambda part: [replies.images_of_part(part, request)]
        )

    def interpolate(
        self, *, timeout_s: float | None = None, **arguments: Unpack[InterpolateArguments]
    ) -> Generator[Frame]:
        """Yield the frames of a walk through latent space, in order. The call starts and ends like `stream`.

        Give exactly one of `latents` and `seeds`: two or more key frames.

        argument          type           default       meaning
        `latents`         float [K, L]                 one row per key frame
        `seeds`           K integers                   one per key frame
        `frames_between`  int            30            new frames between two key frames, F
        `path`            str            "spherical"   "spherical" (great circles), "linear", or "smooth" (along a
                                                       spline on the sphere: no turn at key frames)
        `pace`            str            "uniform"     "uniform" (F frames between key frames) or "even" (neighbouring
                                                       frames differ by the same amount; begins later)
        `loop`            bool           False         return from the last key frame to the first
        `labels`          float [K, M]                 one label vector per key frame, or as in `generate`

        A walk has K + (K - 1) * F frames, a loop K * (F + 1). `edits` apply to the key frames. The other arguments are
        those of `generate`.
        """
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = requests.interpolate_request(**arguments)
        stream = Stream(request, requests.frame_count(request))
        return self._stream(self._images.Interpolate, stream, deadline_s, replies.frames_of_part)

    def invert(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        progress: Callable[[InversionReport], None] | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[InvertArguments],
    ) -> Inversion:
        """Return the latents whose images are nearest to one to eight pictures, to edit a photograph, say.

            found = client.invert("photo.jpg")
            client.generate(latents=found.latents, edits={"size": 1.5}).save("edited.png")

        A picture is a path, the bytes of a PNG, JPEG or WebP, a PIL image, or uint8 [H, W, 3]. Files above 480 KiB or
        4096 pixels a side are made smaller before they are sent. The service scales all to its resolution, and neither
        logs nor stores them.

        argument           type     default   meaning
        `fit`              str      "crop"    how a picture becomes square: its centre, "pad" (all of it, with white
                                              borders) or "stretch"
        `label`, `labels`           None      as in `generate`; None: they are found, too
        `max_evaluations`  int      300       of the gradient, for each picture; one takes as long as two images
        `enough_db`        float    50        the PSNR at which a picture is done. Photographs end lower
        `progress`         callable None      is called with an InversionReport from time to time
        `timeout_s`        float    None      deadline in seconds, with the best so far; None: that of streams

        `model`, `version`, `encoding`, `quality` and `bulk` are those of `generate`. The same picture and budget give
        the same latents. Raise FailedPreconditionError for a version of which `ModelVersion.can_invert` is false.
        """
        deadline_s = self._settings.stream_deadline_s(timeout_s)
        request = requests.invert_request(pictures, REPORT_EVERY if progress else 0, **arguments)
        last = {}
        with explained(self._settings), translated(self._settings, deadline_s):
            call = self._images.Invert(request, timeout=deadline_s, metadata=self._settings.metadata)
            with cancelled_at_the_end(call):
                for reply in call:
                    if progress:
                        progress(replies.report_of_reply(reply))
                    if replies.is_end(reply):
                        last[reply.picture] = reply
        return replies.inversion_of_replies(last, len(request.pictures))

    def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """Return all models of the service, sorted by name."""
        reply: pb.ListModelsResponse = self._call(self._models.ListModels, pb.ListModelsRequest(), timeout_s)
        return [replies.model_of_message(model) for model in reply.models]

    def model(self, name: str = "", *, timeout_s: float | None = None) -> Model:
        """Return one model, the default model if the name is empty. Raise NotFoundError for an unknown name."""
        reply: pb.GetModelResponse = self._call(self._models.GetModel, requests.model_request(name), timeout_s)
        return replies.model_of_message(reply.model)

    def health(self, model: str = "", *, timeout_s: float | None = None) -> str:
        """Return the health of the service, or of one model.

        "SERVING": ready. "NOT_SERVING": not ready. "SERVICE_UNKNOWN": the service has no such model.
        "UNKNOWN": any other state.
        """
        try:
            reply: health_pb2.HealthCheckResponse = self._call(
                self._health.Check, requests.health_request(model), timeout_s
            )
        except NotFoundError:
            return replies.UNKNOWN_HEALTH
        return replies.health_of_reply(reply)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return as soon as the service can make images. Raise DeadlineExceededError after `timeout_s` seconds."""
        deadline_s = checked_timeout_s("timeout_s", timeout_s)  # before a thread of gRPC watches the channel
        ready = grpc.channel_ready_future(self._image_channel)  # READY only while the service's health is SERVING
        try:
            ready.result(deadline_s)
        except grpc.FutureTimeoutError:
            target = self._settings.target
            raise not_ready_in_time(target, timeout_s, obstacle(target, self._settings.tls)) from None
        finally:
            ready.cancel()

    def close(self) -> None:
        """Close the connections. Calls in flight end with an error."""
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
        with explained(self._settings), translated(self._settings, deadline_s):
            return method(request, timeout=deadline_s, metadata=self._settings.metadata)

    def _stream(
        self, method: Callable[..., Any], stream: Stream, deadline_s: float, decode: Callable[[Any], Iterable[Part]]
    ) -> Generator[Part]:
        end_s = time.monotonic() + deadline_s
        while not stream.is_complete:
            try:
                with translated(self._settings, deadline_s):
                    call = method(stream.request, timeout=end_s - time.monotonic(), metadata=self._settings.metadata)
                    with cancelled_at_the_end(call):
                        for reply in call:
                            stream.arrived(reply)
                            yield from decode(reply)
                stream.ended()
                return
            except ProganError as error:
                with explained(self._settings):
                    pause_s = stream.pause_s(error, end_s - time.monotonic())
            time.sleep(pause_s)


def _channel(settings: Settings, options: Options) -> grpc.Channel:
    if settings.tls is None:
        return grpc.insecure_channel(settings.target, options)
    return grpc.secure_channel(settings.target, settings.tls.credentials(), options)
