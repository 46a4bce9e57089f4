"""The rpcs of progan.v1.ImageGeneratorService: messages to jobs, and images to messages. Decides nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace

from google.protobuf.descriptor import ServiceDescriptor

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.errors import InvalidArgument, naming
from progan_service.serving.jobs.inversion import Inverter
from progan_service.serving.jobs.job import Job, asked_by
from progan_service.serving.jobs.limits import Limits
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import Model
from progan_service.serving.models.permitted import PermittedModels
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.progan_v1 import parse, reply
from progan_service.serving.watching.calls import Call

DESCRIPTOR: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]

_NAME_BYTES = 4 * 2**10  # of the longest request that is only a name


class ImageGeneratorServicer:
    """Its methods are the rpcs of the .proto. They raise ServingErrors. Used in the event loop only."""

    def __init__(self, catalog: ModelCatalog, maker: ImageMaker, inverter: Inverter, limits: Limits) -> None:
        self._catalog = catalog
        self._models = PermittedModels(catalog)
        self._maker = maker
        self._inverter = inverter
        self._limits = limits
        self._messages = reply.Models()
        self._decoding = ThreadPoolExecutor(1, "pictures")  # one call at a time, to save memory

    def request_bytes(self, rpc: str) -> int | None:
        """Return the size of the largest useful request of an rpc; None if it may be as large as any."""
        match rpc:
            case "ListModels" | "GetModel":
                return _NAME_BYTES
            case "Generate" | "Interpolate":
                row_bytes = self._catalog.widest_row_bytes()
                return self._limits.request_bytes(row_bytes) if row_bytes else None
        return None

    async def Generate(self, request: pb.GenerateRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            job = asked_by(call, parse.generate_job(request, version, call.deadline))
            if problem := self._limits.reply_problem(job):
                raise InvalidArgument("latents", f"{problem}, use StreamGenerate")
            async with self._maker.whole(job) as piece:
                self._maker.note_sent(call, job, piece)
                data = reply.whole(piece, job)
                del piece  # the data is a copy
                yield data

    async def StreamGenerate(self, request: pb.StreamGenerateRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            job = asked_by(call, parse.stream_job(request, version, call.deadline))
            async with aclosing(self._parts(pb.StreamGenerateResponse, job, call)) as parts:
                async for part in parts:
                    yield part

    async def Interpolate(self, request: pb.InterpolateRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            job = asked_by(call, parse.walk_job(request, version, self._limits.max_key_frames, call.deadline))
            async with aclosing(self._parts(pb.InterpolateResponse, job, call)) as parts:
                async for part in parts:
                    yield part

    async def _parts(self, kind: type[reply.Part], job: Job, call: Call) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._maker.stream(job)) as pieces:
            async for piece in pieces:
                self._maker.note_sent(call, job, piece)
                data = reply.part(kind, piece, job)
                del piece  # the data is a copy
                yield data

    async def Invert(self, request: pb.InvertRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            parse.inverting(version)
            loop = asyncio.get_running_loop()
            targets = await loop.run_in_executor(self._decoding, parse.pictures, request, version.metadata)
            request.ClearField("pictures")
            inversion = parse.inversion(request, version, targets, call.deadline)
            inversion = replace(inversion, image=asked_by(call, inversion.image))
            async with aclosing(self._inverter.reports(inversion)) as reports:
                async for report in reports:
                    self._inverter.note_sent(call, inversion, report)
                    yield reply.report(report, inversion)

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        messages = [self._message(model, call) for model in self._models.all(call)]
        return pb.ListModelsResponse(models=reply.fitting(messages, self._limits.max_reply_bytes))

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        with naming(model="name"):
            model = self._models.model(call, request.name)
        (message,) = reply.fitting([self._message(model, call)], self._limits.max_reply_bytes)
        return pb.GetModelResponse(model=message)

    @contextmanager
    def _use(self, selector: pb.ModelSelector, call: Call) -> Iterator[LoadedVersion]:
        """Keep the selected version loaded within the block."""
        with (
            naming(model="model.name", label="model.version_label"),
            self._models.use(call, selector.name, selector.version, selector.version_label) as version,
        ):
            yield version

    def _message(self, model: Model, call: Call) -> pb.Model:
        return self._messages.message(model, is_default=model.name == self._models.default(call))
