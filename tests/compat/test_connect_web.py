"""Connect's own client for web pages, in Node: by Connect with JSON and binary messages, and by gRPC-Web. And curl."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from progan_client import Client
from progan_protos.v1 import image_generator_pb2 as pb

pytestmark = pytest.mark.compat

HERE = Path(__file__).parent / "connect"


def described(file: Any, known: set[str]) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """A file and what it imports, as protoc describes them."""
    for imported in file.dependencies:
        yield from described(imported, known)
    if file.name not in known:
        known.add(file.name)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        name_in_json(proto.message_type)
        yield proto


def name_in_json(messages: Iterable[Any]) -> None:
    for message in messages:
        for field in message.field:
            first, *others = field.name.split("_")
            field.json_name = first + "".join(map(str.capitalize, others))
        name_in_json(message.nested_type)


@pytest.fixture(scope="module")
def seen(server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=HERE, capture_output=True, text=True
    )
    assert installed.returncode == 0, installed.stderr[-2000:]
    descriptors = tmp_path_factory.mktemp("descriptors") / "progan.binpb"
    files = described(pb.DESCRIPTOR, set())
    descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
    command = ["node", HERE / "ask.mjs", f"127.0.0.1:{server.http_port}", descriptors, "tiny"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    answers: dict[str, Any] = json.loads(run.stdout)
    return answers


def test_curl_gets_images_as_json(server: Any) -> None:
    address = f"http://localhost:{server.http_port}/progan.v1.ImageGeneratorService/Generate"
    asked = '{"latents": {"seeds": {"seeds": ["1337"]}}, "format": {"encoding": "IMAGE_ENCODING_PNG"}}'
    command = ["curl", "-sS", address, "-H", "Content-Type: application/json", "-d", asked]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    [image] = json.loads(run.stdout)["images"]["files"]
    assert base64.b64decode(image).startswith(b"\x89PNG")


@pytest.mark.parametrize("transport", ["connect json", "connect binary", "grpc-web"])
def test_images_a_stream_and_a_refusal(seen: dict[str, Any], server: Any, transport: str) -> None:
    with Client(f"127.0.0.1:{server.port}") as client:
        pixels = client.generate(seeds=[1337, 2**64 - 1]).pixels
    assert seen[transport] == {
        "seeds": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "frames": 5,
        "refusal": "NotFound",
    }
