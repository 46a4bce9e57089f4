"""The border to gRPC: every call enters and every error leaves here.

A request that does not parse, a ServingError and any other exception all become one status of the contract, with
google.rpc details; nothing else of an exception reaches a caller.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf import any_pb2, message, message_factory
from google.rpc import code_pb2, error_details_pb2, status_pb2

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.errors import InternalError, InvalidArgument, QueueFull, ServingError
from progan_service.serving.gate import Gate
from progan_service.serving.metrics import Metrics

log = logging.getLogger(__name__)

ERROR_DOMAIN = "progan"

_MAX_TEXT = 300  # characters; a caller's own words are quoted, and gRPC refuses trailers above 8 KiB

_Context = grpc.aio.ServicerContext[Any, Any]
_Border = Callable[[object, _Context], AbstractAsyncContextManager["Call"]]


@dataclass
class Call:
    """What an rpc knows of its call; `model` is filled in once it is known to exist."""

    method: str
    deadline: float  # of time.monotonic(); infinity without one
    model: str = ""


def rpc_handlers(servicer: object, metrics: Metrics, gate: Gate) -> grpc.GenericRpcHandler:
    """Handlers for all rpcs of the service; each method of `servicer` takes (request, Call)."""
    service = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]
    handlers = {}
    for method in service.methods:
        behaviour = getattr(servicer, method.name)
        border = partial(_border, method.name, metrics, gate)
        parse = _lenient(message_factory.GetMessageClass(method.input_type))
        if method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(_streaming(behaviour, border), parse, _serialize)
        else:
            handler = grpc.unary_unary_rpc_method_handler(_unary(behaviour, border), parse, _serialize)
        handlers[method.name] = handler
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


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


def _unary(behaviour: Callable[..., Any], border: _Border) -> Callable[..., Any]:
    async def answer(request: message.Message | None, context: _Context) -> message.Message:
        async with border(request, context) as call:
            reply: message.Message = await behaviour(request, call)
            return reply

    return answer


def _streaming(behaviour: Callable[..., Any], border: _Border) -> Callable[..., Any]:
    async def answer(request: message.Message | None, context: _Context) -> AsyncIterator[message.Message]:
        async with border(request, context) as call, aclosing(behaviour(request, call)) as replies:
            async for reply in replies:
                yield reply

    return answer


@asynccontextmanager
async def _border(method: str, metrics: Metrics, gate: Gate, request: object, context: _Context) -> AsyncIterator[Call]:
    started = time.monotonic()
    remaining = context.time_remaining()
    call = Call(method, float("inf") if remaining is None else started + remaining)
    code = "OK"
    try:
        with gate.enter():
            if request is None:
                raise InvalidArgument("request", "does not parse as the message of this rpc")
            yield call
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except Exception as error:
        told = _as_serving_error(error, method)
        code = told.code
        status_code, text = getattr(grpc.StatusCode, told.code), _clip(str(told))
        await context.abort(status_code, text, trailing_metadata=_trailing_metadata(told))
    finally:
        metrics.requests.labels(method, call.model, code).inc()
        metrics.request_duration.labels(method, call.model).observe(time.monotonic() - started)


def _as_serving_error(error: Exception, method: str) -> ServingError:
    if isinstance(error, ServingError):
        return error
    incident = uuid.uuid4().hex[:12]
    log.error("%s failed, id %s", method, incident, exc_info=error)
    return InternalError(incident)


def _trailing_metadata(error: ServingError) -> tuple[tuple[str, str | bytes], ...]:
    details = ("grpc-status-details-bin", status_of(error).SerializeToString())
    if isinstance(error, QueueFull):  # RetryInfo alone is not acted on by gRPC clients
        return details, ("grpc-retry-pushback-ms", str(max(1, round(error.retry_after_s * 1000))))
    return (details,)
