"""The committed stubs say what the .proto says; `make check` generates them again and compares byte for byte."""

import re
from pathlib import Path

import progan_protos
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PROTO = (Path(progan_protos.__file__).parent / "v1" / "image_generator.proto").read_text()
SERVICE = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]


def test_every_rpc_of_the_text_is_in_the_stub_and_the_reverse() -> None:
    written = re.findall(r"^  rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\);", PROTO, re.MULTILINE)
    generated = [
        (rpc.name, rpc.input_type.name, "stream " if rpc.server_streaming else "", rpc.output_type.name)
        for rpc in SERVICE.methods
    ]
    assert written == generated
    assert all(hasattr(pb_grpc.ImageGeneratorServiceServicer, name) for name, *_ in written)


def test_every_field_of_the_text_is_in_the_stub_and_the_reverse() -> None:
    generated = {
        (message.name, field.name, field.number)
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert written_members("message") == generated
    assert set(re.findall(r"^message (\w+)", PROTO, re.MULTILINE)) == set(pb.DESCRIPTOR.message_types_by_name)


def test_every_enum_value_of_the_text_is_in_the_stub_and_the_reverse() -> None:
    generated = {
        (enum.name, value.name, value.number)
        for enum in pb.DESCRIPTOR.enum_types_by_name.values()
        for value in enum.values
    }
    assert written_members("enum") == generated


def test_generated_imports_begin_at_the_distribution() -> None:
    assert pb.DESCRIPTOR.name == "progan_protos/v1/image_generator.proto"
    assert pb.DESCRIPTOR.package == "progan.v1"


def written_members(kind: str) -> set[tuple[str, str, int]]:
    """(block, member, number) of every message field or enum value in the text."""
    blocks = re.findall(rf"^{kind} (\w+) {{\n(.*?)^}}", PROTO, re.MULTILINE | re.DOTALL)
    member = re.compile(r"^ +(?:[\w. <>,]+ )?(\w+) = (\d+);", re.MULTILINE)
    return {(name, field, int(number)) for name, body in blocks for field, number in member.findall(body)}
