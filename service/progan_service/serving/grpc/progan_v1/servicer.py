"""The rpcs of ImageGeneratorService: protobuf to arrays and back. Translates, decides nothing."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import InvalidArgument
from progan_service.serving.grpc.progan_v1.parse import Format, Labels, Latents, Walk, parse_priority
from progan_service.serving.grpc.progan_v1.reply import (
    images_message,
    matrix_message,
    served_model,
    stage_times,
    version_message,
)
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching import traces
from progan_service.serving.watching.calls import Call

_REPLY_OVERHEAD_BYTES = 64 * 2**10  # of a reply, beside images and latents


class ImageGeneratorServicer:
    """Its methods are the rpcs of the .proto; they raise ServingErrors."""

    def __init__(self, config: ServerConfig, catalog: ModelCatalog, maker: ImageMaker) -> None:
        self._config = config
        self._catalog = catalog
        self._maker = maker

    async def Generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        with self._use(request.model, call) as model:
            job = self._generate_job(model, request, call)
            self._check_fits_one_reply(job)
            piece = await self._maker.make(job, 0, job.latents.count)
        _note(call, job, piece)
        return pb.GenerateResponse(
            images=images_message(piece, job),
            latents=matrix_message(piece.latents),
            model=served_model(model),
            times=stage_times(piece),
        )

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        with self._use(request.model, call) as model:
            job = self._generate_job(model, request, call)
            async with aclosing(self._maker.stream(job)) as pieces:
                async for piece in pieces:
                    _note(call, job, piece)
                    yield pb.StreamGenerateResponse(
                        first_index=piece.first,
                        images=images_message(piece, job),
                        latents=matrix_message(piece.latents),
                        model=served_model(model),
                        times=stage_times(piece),
                    )

    async def Interpolate(self, request: pb.InterpolateRequest, call: Call) -> AsyncIterator[pb.InterpolateResponse]:
        with self._use(request.model, call) as model:
            walk = Walk.parse(request, model.metadata, self._config.max_images)
            labels = Labels.parse(request.labels, model.metadata, walk.key_frames, request.frames_between)
            job = Job(
                model, walk, labels, Format.parse(request.format), call.deadline, parse_priority(request.priority)
            )
            async with aclosing(self._maker.stream(job)) as pieces:
                async for piece in pieces:
                    _note(call, job, piece)
                    yield pb.InterpolateResponse(
                        first_index=piece.first,
                        images=images_message(piece, job),
                        latents=matrix_message(piece.latents),
                        model=served_model(model),
                        times=stage_times(piece),
                    )

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[self._model(name) for name in self._catalog.models])

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        model = self._model(request.name)
        call.model = model.name
        return pb.GetModelResponse(model=model)

    @contextmanager
    def _use(self, selector: pb.ModelSelector, call: Call) -> Iterator[LoadedVersion]:
        with self._catalog.use(selector.name, selector.version, selector.version_label) as model:
            call.model, call.version = model.name, model.version
            yield model

    def _generate_job(
        self, model: LoadedVersion, request: pb.GenerateRequest | pb.StreamGenerateRequest, call: Call
    ) -> Job:
        latents = Latents.parse(request.latents, model.metadata)
        labels = Labels.parse(request.labels, model.metadata, latents.count)
        priority = parse_priority(request.priority)
        return Job(model, latents, labels, Format.parse(request.format), call.deadline, priority)

    def _check_fits_one_reply(self, job: Job) -> None:
        count, config = job.latents.count, self._config
        most = min(config.max_images, config.batching.max_queued_rows)  # what never fits the queue is not tried
        if count > most:
            raise InvalidArgument(
                "latents", f"asks for {count} images; one call gives at most {most}, use StreamGenerate"
            )
        reply_bytes = count * job.image_bytes + _REPLY_OVERHEAD_BYTES
        if reply_bytes > config.max_message_bytes:
            raise InvalidArgument(
                "latents",
                f"asks for {count} images, up to {reply_bytes} bytes; a reply holds at most "
                f"{config.max_message_bytes}, use StreamGenerate",
            )

    def _model(self, name: str) -> pb.Model:
        model = self._catalog.model(name)
        message = pb.Model(
            name=model.name,
            versions=[version_message(status) for status in model.versions],
            is_default=model.name == self._catalog.default,
            pinned_version=model.rollout.pinned,
            error=model.error,
        )
        if model.serving:
            message.serving_version = model.serving.version
        message.version_labels.update({label: ready.version for label, ready in model.labelled.items()})
        return message


def _note(call: Call, job: Job, piece: Piece) -> None:
    call.format = job.format.encoding
    call.images += len(piece.latents)
    call.queue_s = max(call.queue_s, piece.generated.queue_s)
    call.inference_s += piece.generated.inference_s
    call.encode_s += piece.encode_s
    _trace(call, piece)


def _trace(call: Call, piece: Piece) -> None:
    generated, asked, made = piece.generated, piece.asked_at, piece.made_at
    began, images = max(asked, made - generated.inference_s), len(piece.latents)
    traces.stage(call, "queue", asked, asked + generated.queue_s, images=images)
    traces.stage(call, "inference", began, made, images=images, batch_rows=generated.batch_rows)
    if piece.files:
        traces.stage(call, "encode", made, made + piece.encode_s, images=images)
