"""The messages and the service of open_inference.proto, in a descriptor pool of their own.

Other packages bring messages of the same names. In the pool that all generated code shares, they would clash.
"""

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from progan_service.serving.protocols.private_pool import private_pool

_POOL = private_pool(__package__, "open_inference.binpb")

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
