"""Reflection: grpc.reflection.v1, and v1alpha for older tools. Both have the same messages."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1ALPHA: ServiceDescriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
REFLECTION_NAMES = (_V1ALPHA.full_name, _V1ALPHA.full_name.replace("v1alpha", "v1"))


def reflection_handlers(services: Iterable[ServiceDescriptor]) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Return the rpc of both services. It describes these services and reflection itself, nothing else of this process.

    The messages of v1 are those of v1alpha on the wire.
    """
    pool = DescriptorPool()
    files: dict[str, FileDescriptor] = {}
    served = [*services, _V1ALPHA]
    for service in served:
        _collect(service.file, files)
    for file in files.values():
        pool.AddSerializedFile(file.serialized_pb)
    pool.AddSerializedFile(_v1_file().SerializeToString())
    names = {*(service.full_name for service in served), *REFLECTION_NAMES}
    servicer = reflection.aio.ReflectionServicer(names, pool)
    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }


def _collect(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    """Add a file, after those that it depends on."""
    for dependency in file.dependencies:
        _collect(dependency, files)
    files.setdefault(file.name, file)


def _v1_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the file of grpc.reflection.v1, which the library leaves out: that of v1alpha under another name."""
    alpha = descriptor_pb2.FileDescriptorProto.FromString(_V1ALPHA.file.serialized_pb)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    return text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
