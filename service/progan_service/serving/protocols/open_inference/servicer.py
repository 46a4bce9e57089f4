"""The rpcs of inference.GRPCInferenceService: messages to jobs, and images to messages. Decides nothing.

What Triton's and KServe's clients send was seen with the real ones: `make compat` runs them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from progan_service.serving.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    ServingError,
    Unavailable,
    Unsupported,
)
from progan_service.serving.jobs.job import asked_by
from progan_service.serving.jobs.limits import Limits
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.permitted import PermittedModels
from progan_service.serving.protocols.open_inference import describe, messages, parse, reply
from progan_service.serving.protocols.open_inference.conversation import conversation
from progan_service.serving.protocols.open_inference.parameters import Parameters
from progan_service.serving.watching.accounted import accounted
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

DESCRIPTOR = messages.SERVICE
HEALTH = ("ServerLive", "ServerReady", "ModelReady")  # told while the server drains, too

_NAME_BYTES = 4 * 2**10  # of the longest request that is only names
_MOST_COPIES = 2  # of a row in a request: load generators send seeds and latents, others FP64


class GRPCInferenceServicer:
    """Its methods are the rpcs of open_inference.proto. They raise ServingErrors. Used in the event loop only."""

    def __init__(
        self,
        catalog: ModelCatalog,
        maker: ImageMaker,
        limits: Limits,
        gate: Gate,
        metrics: Metrics,
        is_ready: Callable[[str], bool],
        look_now: Callable[[], Awaitable[object]],
    ) -> None:
        """
        is_ready   tells whether a model answers; '': whether any does
        look_now   makes the server read its store at once
        """
        self._catalog = catalog
        self._models = PermittedModels(catalog)
        self._maker = maker
        self._limits = limits
        self._gate = gate
        self._metrics = metrics
        self._is_ready = is_ready
        self._look_now = look_now

    def request_bytes(self, rpc: str) -> int | None:
        """Return the size of the largest useful request of an rpc; None if it may be as large as any."""
        if not rpc.endswith("Infer"):
            return _NAME_BYTES
        row_bytes = self._catalog.widest_row_bytes()
        return self._limits.request_bytes(_MOST_COPIES * row_bytes) if row_bytes else None

    # --- the server and its models ---

    async def ServerLive(self, request: Any, call: Call) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, call: Call) -> Any:
        return messages.ServerReadyResponse(ready=self._is_ready(""))

    async def ModelReady(self, request: Any, call: Call) -> Any:
        try:
            with self._models.use(call, *parse.selection(request.name, request.version)) as version:
                return messages.ModelReadyResponse(ready=self._is_ready(version.name))
        except (ModelNotFound, Unavailable, FailedPrecondition):
            return messages.ModelReadyResponse(ready=False)

    async def ServerMetadata(self, request: Any, call: Call) -> Any:
        return describe.server()

    async def ModelMetadata(self, request: Any, call: Call) -> Any:
        with self._models.use(call, *parse.selection(request.name, request.version)) as version:
            return describe.metadata(self._models.model(call, version.name), version)

    async def ModelConfig(self, request: Any, call: Call) -> Any:
        with self._models.use(call, *parse.selection(request.name, request.version)) as version:
            return describe.config(version, self._limits.most_images(version.image_bytes))

    async def ModelStatistics(self, request: Any, call: Call) -> Any:
        answer = messages.ModelStatisticsResponse()
        if request.name or request.version:
            with self._models.use(call, *parse.selection(request.name, request.version)) as version:
                answer.model_stats.append(describe.statistics(version, self._metrics))
            return answer
        for model in self._models.all(call):
            for _, version in sorted(model.loaded.items()):
                answer.model_stats.append(describe.statistics(version, self._metrics))
        return answer

    # --- inference ---

    async def ModelInfer(self, request: Any, call: Call) -> AsyncIterator[bytes]:
        async with aclosing(self._infer(request, call, in_stream=False)) as replies:
            async for answer in replies:
                data = answer.SerializeToString()
                del answer
                yield data

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async with aclosing(conversation(requests, partial(self._in_stream, call=call))) as replies:
            async for answer in replies:
                yield answer

    async def _in_stream(self, request: Any, call: Call) -> AsyncGenerator[Any, None]:
        """Answer a request of a stream, which has an account of its own. An error is a message."""
        one = replace(call, method="ModelInfer", images=0, queue_s=0.0, inference_s=0.0, encode_s=0.0)
        try:
            with accounted(one, self._metrics, ()), self._gate.enter():
                async with aclosing(self._infer(request, one, in_stream=True)) as replies:
                    async for answer in replies:
                        yield messages.ModelStreamInferResponse(infer_response=answer)
        except ServingError as error:
            failed = messages.ModelStreamInferResponse(error_message=str(error))
            failed.infer_response.id = request.id
            yield failed

    async def _infer(self, request: Any, call: Call, *, in_stream: bool) -> AsyncGenerator[Any, None]:
        call.take_id(request.id)
        parameters = Parameters(request.parameters)
        call.deadline = parse.deadline(parameters, call.deadline)
        selected = parse.selection(request.model_name, request.model_version, parameters.text("version_label"))
        with self._models.use(call, *selected) as version:
            asked = parse.inference(request, parameters, version, self._limits.max_key_frames, call.deadline)
            asked = replace(asked, job=asked_by(call, asked.job))
            if in_stream and asked.is_walk:
                async with aclosing(self._frames(asked, request.id, call)) as frames:
                    async for frame in frames:
                        yield frame
                return
            if problem := self._limits.reply_problem(asked.job):
                raise InvalidArgument("inputs", f"{problem}; send several requests")
            async with self._maker.whole(asked.job) as piece:
                self._maker.note_sent(call, asked.job, piece)
                answer = reply.whole(piece, asked, request.id)
                del piece  # the answer is a copy
                yield answer

    async def _frames(self, asked: parse.Inference, request_id: str, call: Call) -> AsyncGenerator[Any, None]:
        async with aclosing(self._maker.stream(asked.job)) as pieces:
            async for piece in pieces:
                self._maker.note_sent(call, asked.job, piece)
                for place in range(len(piece.latents)):
                    yield reply.frame(piece, place, asked, request_id)

    # --- the store: it decides what is loaded ---

    async def RepositoryIndex(self, request: Any, call: Call) -> Any:
        return describe.index(self._models.all(call), ready=request.ready)

    async def RepositoryModelLoad(self, request: Any, call: Call) -> Any:
        if request.parameters:
            names = ", ".join(sorted(request.parameters))
            raise InvalidArgument("parameters", f"holds {names}; the files of a model come from the store alone")
        await self._look_now()
        model = self._models.model(call, request.model_name or request.repository_name)
        return messages.RepositoryModelLoadResponse(model_name=model.name, isLoaded=model.serving is not None)

    async def RepositoryModelUnload(self, request: Any, call: Call) -> Any:
        name = self._models.model(call, request.model_name or request.repository_name).name
        raise FailedPrecondition(f"the store decides which models are loaded; take {name!r} out of it")

    # --- what this server does not have ---

    async def SystemSharedMemoryStatus(self, request: Any, call: Call) -> Any:
        return messages.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, call: Call) -> Any:
        return messages.SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryRegister(self, request: Any, call: Call) -> Any:
        raise Unsupported("shared memory is not supported; send the values in the request")

    async def CudaSharedMemoryStatus(self, request: Any, call: Call) -> Any:
        return messages.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryUnregister(self, request: Any, call: Call) -> Any:
        return messages.CudaSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryRegister(self, request: Any, call: Call) -> Any:
        raise Unsupported("CUDA shared memory is not supported; send the values in the request")

    async def TraceSetting(self, request: Any, call: Call) -> Any:
        if request.settings:
            raise Unsupported("traces are set when the server starts, by its environment (OTEL_...)")
        answer = messages.TraceSettingResponse()
        answer.settings["trace_level"].value.append("OFF")
        return answer

    async def LogSettings(self, request: Any, call: Call) -> Any:
        if request.settings:
            raise Unsupported("the log is set when the server starts: --log-level")
        answer = messages.LogSettingsResponse()
        answer.settings["log_info"].bool_param = True
        return answer
