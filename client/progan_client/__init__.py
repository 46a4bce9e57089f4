"""Request images from a ProGAN service: `Client`, or `AsyncClient` for asyncio."""

from importlib import metadata

from progan_client import quiet  # noqa: F401  # before grpc
from progan_client.aio import AsyncClient
from progan_client.animation import save_animation
from progan_client.channel import Tls
from progan_client.client import Client
from progan_client.errors import (
    ArgumentError,
    ClientClosedError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    MessageTooLargeError,
    NotFoundError,
    PermissionDeniedError,
    ProganError,
    ReplyError,
    ResourceExhaustedError,
    ServiceError,
    UnauthenticatedError,
    UnavailableError,
)
from progan_client.images import Frame, GeneratedImages, StageTimes
from progan_client.inversion import Inversion, InversionReport
from progan_client.models import Direction, Model, ModelVersion, ServedModel

__version__ = metadata.version("progan-client")

__all__ = [
    "ArgumentError",
    "AsyncClient",
    "Client",
    "ClientClosedError",
    "DeadlineExceededError",
    "Direction",
    "FailedPreconditionError",
    "FieldViolation",
    "Frame",
    "GeneratedImages",
    "InternalError",
    "InvalidArgumentError",
    "Inversion",
    "InversionReport",
    "MessageTooLargeError",
    "Model",
    "ModelVersion",
    "NotFoundError",
    "PermissionDeniedError",
    "ProganError",
    "ReplyError",
    "ResourceExhaustedError",
    "ServedModel",
    "ServiceError",
    "StageTimes",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "save_animation",
]
