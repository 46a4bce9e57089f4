"""The border to gRPC: every call enters and every error leaves here.

A request that does not parse, a ServingError and any other exception all become one status of the contract, with
google.rpc details; nothing else of an exception reaches a caller.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2, message, message_factory
from google.rpc import code_pb2, error_details_pb2, status_pb2

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.errors import InternalError, InvalidArgument, QueueFull, ServingError
from progan_service.serving.metrics import Metrics

log = logging.getLogger(__name__)

ERROR_DOMAIN = "progan"


@dataclass
class Call:
    """What an rpc knows of its call; `model` is filled in once it is known to exist."""

    method: str
    deadline: float  # of time.monotonic(); infinity without one
    model: str = ""


def rpc_handlers(servicer: object, metrics: Metrics) -> grpc.GenericRpcHandler:
    """Handlers for all rpcs of the service; each method of `servicer` takes (request, Call)."""
    service = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]
    handlers = {}
    for method in service.methods:
        behaviour = getattr(servicer, method.name)
        parse = _lenient(message_factory.GetMessageClass(method.input_type))
        if method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(
                _streaming(method.name, behaviour, metrics), parse, _serialize
            )
        else:
            handler = grpc.unary_unary_rpc_method_handler(_unary(method.name, behaviour, metrics), parse, _serialize)
        handlers[method.name] = handler
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def status_of(error: ServingError) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)]
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, QueueFull):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


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


def _unary(method: str, behaviour: Callable[..., Any], metrics: Metrics) -> Callable[..., Any]:
    async def answer(request: message.Message | None, context: grpc.aio.ServicerContext[Any, Any]) -> message.Message:
        async with _border(method, request, context, metrics) as call:
            reply: message.Message = await behaviour(request, call)
            return reply

    return answer


def _streaming(method: str, behaviour: Callable[..., Any], metrics: Metrics) -> Callable[..., Any]:
    async def answer(
        request: message.Message | None, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[message.Message]:
        async with _border(method, request, context, metrics) as call, aclosing(behaviour(request, call)) as replies:
            async for reply in replies:
                yield reply

    return answer


@asynccontextmanager
async def _border(
    method: str, request: object, context: grpc.aio.ServicerContext[Any, Any], metrics: Metrics
) -> AsyncIterator[Call]:
    started = time.monotonic()
    remaining = context.time_remaining()
    call = Call(method, float("inf") if remaining is None else started + remaining)
    code = "OK"
    try:
        if request is None:
            raise InvalidArgument("request", "does not parse as the message of this rpc")
        yield call
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except Exception as error:
        told = _as_serving_error(error, method)
        code = told.code
        await context.abort(getattr(grpc.StatusCode, told.code), str(told), trailing_metadata=_trailing_metadata(told))
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
