"""The border to gRPC: every call enters and every error leaves here.

A request that does not parse, a ServingError and any other exception all become one status of the contract, with
google.rpc details; nothing else of an exception reaches a caller.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
)
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
from google.protobuf import any_pb2, message, message_factory
from google.rpc import code_pb2, error_details_pb2, status_pb2

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.batching.pace import DEADLINE_SLACK_S
from progan_service.serving.errors import InternalError, InvalidArgument, QueueFull, ServingError
from progan_service.serving.models.gate import Gate
from progan_service.serving.watching import traces
from progan_service.serving.watching.calls import REQUEST_ID, Call, request_id, tell
from progan_service.serving.watching.metrics import Metrics

log = logging.getLogger(__name__)

ERROR_DOMAIN = "progan"

_MAX_TEXT = 300  # characters; a caller's own words are quoted, and gRPC refuses trailers above 8 KiB

_SERVICE = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]
RPC_NAMES = {f"/{_SERVICE.full_name}/{method.name}": method.name for method in _SERVICE.methods}

current_caller: ContextVar[str] = ContextVar("caller", default="")  # each call has a task, and so a context, of its own

Context = grpc.aio.ServicerContext[Any, Any]
_Border = Callable[[object, Context], AbstractAsyncContextManager["Call"]]


def rpc_handlers(servicer: object, metrics: Metrics, gate: Gate) -> grpc.GenericRpcHandler:
    """Handlers for all rpcs of the service; each method of `servicer` takes (request, Call)."""
    handlers = {}
    for method in _SERVICE.methods:
        behaviour = getattr(servicer, method.name)
        guarded = partial(border, method.name, metrics, gate.enter)
        parse = _lenient(message_factory.GetMessageClass(method.input_type))
        if method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(_streaming(behaviour, guarded), parse, _serialize)
        else:
            handler = grpc.unary_unary_rpc_method_handler(_unary(behaviour, guarded), parse, _serialize)
        handlers[method.name] = handler
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)


def status_of(error: ServingError) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)]
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=_clip(error.description))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, QueueFull):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_clip(str(error)))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 4] + " ..."


def _lenient(request_class: type[message.Message]) -> Callable[[bytes], message.Message | None]:
    """grpc.aio would answer UNKNOWN with the exception's text: None stands for what does not parse."""

    def parse(data: bytes) -> message.Message | None:
        try:
            return request_class.FromString(data)
        except message.DecodeError:
            return None

    return parse


def _serialize(reply: message.Message) -> bytes:
    return reply.SerializeToString()


def _unary(behaviour: Callable[..., Any], guarded: _Border) -> Callable[..., Any]:
    async def answer(request: message.Message | None, context: Context) -> message.Message:
        async with guarded(request, context) as call:
            reply: message.Message = await behaviour(request, call)
            return reply

    return answer


def _streaming(behaviour: Callable[..., Any], guarded: _Border) -> Callable[..., Any]:
    async def answer(request: message.Message | None, context: Context) -> AsyncIterator[message.Message]:
        async with guarded(request, context) as call, aclosing(behaviour(request, call)) as replies:
            async for reply in replies:
                yield reply

    return answer


@asynccontextmanager
async def border(
    method: str, metrics: Metrics, enter: Callable[[], AbstractContextManager[None]], request: object, context: Context
) -> AsyncIterator[Call]:
    started = time.monotonic()
    remaining = context.time_remaining()
    deadline = float("inf") if remaining is None else started + remaining
    metadata = context.invocation_metadata() or ()
    name = request_id(metadata)
    call = Call(method, deadline, caller=current_caller.get(), peer=context.peer(), request_id=name)
    context.set_trailing_metadata(((REQUEST_ID, name),))
    traces.begin(call, _SERVICE.full_name, metadata)
    try:
        with enter():
            if request is None:
                raise InvalidArgument("request", "does not parse as the message of this rpc")
            yield call
    except BaseException as error:
        if _ends_the_call(error):
            late = call.deadline - time.monotonic() < DEADLINE_SLACK_S
            call.code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        told = _as_serving_error(error, call)
        call.code, call.reason, call.error = told.code, told.reason, _clip(str(told))
        trailers = ((REQUEST_ID, name), *_trailing_metadata(told))
        await context.abort(getattr(grpc.StatusCode, call.code), call.error, trailing_metadata=trailers)
    finally:
        duration_s = time.monotonic() - started
        metrics.requests.labels(method, call.model, call.code).inc()
        metrics.request_duration.labels(method, call.model).observe(duration_s)
        traces.end(call)
        tell(call, duration_s)


def _ends_the_call(error: BaseException) -> bool:
    """Whether nobody waits for an answer: gRPC cancels the call's own task. Else something in it was cancelled."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit | KeyboardInterrupt | SystemExit)


def _as_serving_error(error: BaseException, call: Call) -> ServingError:
    if isinstance(error, ServingError):
        return error
    call.incident = uuid.uuid4().hex[:12]
    fields = {"incident": call.incident, "request_id": call.request_id}
    log.error("%s failed, id %s", call.method, call.incident, exc_info=error, extra={"fields": fields})
    return InternalError(call.incident)


def _trailing_metadata(error: ServingError) -> tuple[tuple[str, str | bytes], ...]:
    details = ("grpc-status-details-bin", status_of(error).SerializeToString())
    if isinstance(error, QueueFull):  # RetryInfo alone is not acted on by gRPC clients
        return details, ("grpc-retry-pushback-ms", str(max(1, round(error.retry_after_s * 1000))))
    return (details,)
