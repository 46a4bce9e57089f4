"""Errors as gRPC sends them: a status with google.rpc details, and trailers."""

from math import ceil
from typing import Any

import grpc

from progan_service.serving.errors import ServingError
from progan_service.serving.protocols.status import status_of

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str | bytes], ...]


def refuse(context: Context, error: ServingError, *metadata: tuple[str, str | bytes]) -> None:
    """Let a call end with this error, once its handler returns. `metadata` goes with it."""
    context.set_code(getattr(grpc.StatusCode, error.code))
    context.set_details(str(error))
    context.set_trailing_metadata((*metadata, *trailers(error)))


def trailers(error: ServingError) -> Metadata:
    """Return the trailing metadata of a call that ends with this error."""
    details = ("grpc-status-details-bin", status_of(error).SerializeToString())
    if error.retry_after_s is not None:  # gRPC clients do not act on RetryInfo alone
        return details, ("grpc-retry-pushback-ms", str(max(1, ceil(error.retry_after_s * 1000))))
    return (details,)
