"""Puppets and the tiny model, served to all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from progan_v1 import Guest, configured, guest

from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


@pytest.fixture(scope="package")
def puppets(puppet_store: Path) -> Iterator[Guest]:
    """The puppets, served: at most 12 images a call."""
    with guest(configured(puppet_store, max_images=12)) as host:
        yield host


@pytest.fixture
def tiny(server_target: str) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    """The tiny real model, served."""
    with grpc.insecure_channel(server_target) as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)
