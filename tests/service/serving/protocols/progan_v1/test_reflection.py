"""What tools that ask for reflection are told."""

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from progan_v1 import PATIENCE_S, SERVICE, Guest


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_describes_each(puppets: Guest, version: str) -> None:
    ask = puppets.channel.stream_stream(  # the messages of both versions are the same
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    [listed] = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=PATIENCE_S)
    names = [service.name for service in listed.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        SERVICE,
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    for name, described in zip(names, ask(iter(questions), timeout=PATIENCE_S), strict=True):
        pool = descriptor_pool.DescriptorPool()
        for file in reversed(described.file_descriptor_response.file_descriptor_proto):
            pool.AddSerializedFile(file)
        assert pool.FindServiceByName(name).methods


def test_reflection_describes_nothing_but_what_is_served(puppets: Guest) -> None:
    import tensorflow  # noqa: F401  # its messages are in this process, too

    stub = reflection_pb2_grpc.ServerReflectionStub(puppets.channel)
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.GraphDef")
    [answer] = stub.ServerReflectionInfo(iter([question]), timeout=PATIENCE_S)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
