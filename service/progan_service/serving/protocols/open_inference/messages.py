"""The messages and the service of open_inference.proto, in a descriptor pool of their own.

Other packages bring messages of the same names. In the pool that all generated code shares, they would clash.
"""

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    compiled = files(__package__).joinpath("open_inference.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


_POOL = _pool()

SERVICE: ServiceDescriptor = _POOL.FindServiceByName("inference.GRPCInferenceService")


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


ServerLiveResponse = _message("ServerLiveResponse")
ServerReadyResponse = _message("ServerReadyResponse")
ModelReadyResponse = _message("ModelReadyResponse")
ServerMetadataResponse = _message("ServerMetadataResponse")
ModelMetadataResponse = _message("ModelMetadataResponse")
ModelConfigResponse = _message("ModelConfigResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
ModelStreamInferResponse = _message("ModelStreamInferResponse")
ModelStatistics = _message("ModelStatistics")
ModelStatisticsResponse = _message("ModelStatisticsResponse")
RepositoryIndexResponse = _message("RepositoryIndexResponse")
RepositoryModelLoadResponse = _message("RepositoryModelLoadResponse")
SystemSharedMemoryStatusResponse = _message("SystemSharedMemoryStatusResponse")
SystemSharedMemoryUnregisterResponse = _message("SystemSharedMemoryUnregisterResponse")
CudaSharedMemoryStatusResponse = _message("CudaSharedMemoryStatusResponse")
CudaSharedMemoryUnregisterResponse = _message("CudaSharedMemoryUnregisterResponse")
TraceSettingResponse = _message("TraceSettingResponse")
LogSettingsResponse = _message("LogSettingsResponse")
