"""The rpcs of progan.v1.ImageGeneratorService: messages to jobs, and images to messages. Decides nothing."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace

from google.protobuf.descriptor import ServiceDescriptor

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.errors import InvalidArgument, PermissionDenied
from progan_service.serving.grpc.progan_v1 import parse, reply
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.limits import Limits
from progan_service.serving.jobs.maker import ImageMaker, note_sent
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.default import listed
from progan_service.serving.models.model import Model
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.calls import Call

DESCRIPTOR: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]

_NAME_BYTES = 4 * 2**10  # of the longest request that is only a name


class ImageGeneratorServicer:
    """Its methods are the rpcs of the .proto. They raise ServingErrors. Used in the event loop only."""

    def __init__(self, catalog: ModelCatalog, maker: ImageMaker, limits: Limits) -> None:
        self._catalog = catalog
        self._maker = maker
        self._limits = limits
        self._models = reply.Models()

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
            job = _of(call, parse.generate_job(request, version, call.deadline))
            if problem := self._limits.reply_problem(job):
                raise InvalidArgument("latents", f"{problem}, use StreamGenerate")
            async with self._maker.whole(job) as piece:
                note_sent(call, job, piece)
                data = reply.whole(piece, job)
                del piece  # the data is a copy
                yield data

    async def StreamGenerate(self, request: pb.StreamGenerateRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            job = _of(call, parse.stream_job(request, version, call.deadline))
            async with aclosing(self._parts(pb.StreamGenerateResponse, job, call)) as parts:
                async for part in parts:
                    yield part

    async def Interpolate(self, request: pb.InterpolateRequest, call: Call) -> AsyncIterator[bytes]:
        with self._use(request.model, call) as version:
            job = _of(call, parse.walk_job(request, version, self._limits.max_key_frames, call.deadline))
            async with aclosing(self._parts(pb.InterpolateResponse, job, call)) as parts:
                async for part in parts:
                    yield part

    async def _parts(self, kind: type[reply.Part], job: Job, call: Call) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._maker.stream(job)) as pieces:
            async for piece in pieces:
                note_sent(call, job, piece)
                data = reply.part(kind, piece, job)
                del piece  # the data is a copy
                yield data

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        models = [model for name, model in sorted(self._catalog.models.items()) if call.rights.may_use(name)]
        messages = [self._message(model, call) for model in models]
        return pb.ListModelsResponse(models=reply.fitting(messages, self._limits.max_reply_bytes))

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        with parse.fields(model="name"):
            model = self._catalog.model(self._permitted(request.name, call))
        call.model = model.name
        (message,) = reply.fitting([self._message(model, call)], self._limits.max_reply_bytes)
        return pb.GetModelResponse(model=message)

    @contextmanager
    def _use(self, selector: pb.ModelSelector, call: Call) -> Iterator[LoadedVersion]:
        """Keep the selected version loaded within the block."""
        with parse.fields(model="model.name", label="model.version_label"):
            name = self._permitted(selector.name, call)
            with self._catalog.use(name, selector.version, selector.version_label) as version:
                call.model, call.version = version.name, version.number
                yield version

    def _permitted(self, name: str, call: Call) -> str:
        """Return the name of a model, or of the caller's default model if it is empty. Raise PermissionDenied."""
        name = name or self._default(call)
        if call.rights.models is None or name in call.rights.models:
            return name
        models = listed(call.rights.models)
        if not name:
            raise InvalidArgument("model", f"is empty, and {call.caller!r} may use several models: {models}")
        raise PermissionDenied(f"{call.caller!r} may use these models only: {models}")

    def _default(self, call: Call) -> str:
        """Return the only model that the caller may use, else the default model of the server."""
        models = call.rights.models or ()
        return next(iter(models)) if len(models) == 1 else self._catalog.default

    def _message(self, model: Model, call: Call) -> pb.Model:
        return self._models.message(model, is_default=model.name == self._default(call))


def _of(call: Call, job: Job) -> Job:
    """Return the job as one of the caller."""
    return replace(job, owner=call.owner, caller=call.caller, quota=call.rights.quota)
