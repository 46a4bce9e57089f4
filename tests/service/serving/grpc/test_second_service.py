"""A service that nothing but this file knows: served, counted, logged and authenticated like the first one."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens, read_tokens
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import InvalidArgument
from progan_service.serving.grpc.border import Border, may_use
from progan_service.serving.grpc.connections import Callers
from progan_service.serving.grpc.health import Health
from progan_service.serving.grpc.receiving import Receiver
from progan_service.serving.grpc.sending import Sender
from progan_service.serving.grpc.server import GrpcServer
from progan_service.serving.models.gate import Gate
from progan_service.serving.protocols.service import Service
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

PATIENCE_S = 60
TOKEN = "alices-token-0123456789"
BEARER = (("authorization", f"Bearer {TOKEN}"),)


def echo_file() -> descriptor_pb2.FileDescriptorProto:
    """echo.proto: `rpc Once(Text) returns (Text)` and `rpc Spell(Text) returns (stream Text)`."""
    file = descriptor_pb2.FileDescriptorProto(name="echo.proto", package="tests", syntax="proto3")
    text = file.message_type.add(name="Text")
    text.field.add(
        name="text",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )
    service = file.service.add(name="Echo")
    service.method.add(name="Once", input_type=".tests.Text", output_type=".tests.Text")
    service.method.add(name="Spell", input_type=".tests.Text", output_type=".tests.Text", server_streaming=True)
    return file


POOL = descriptor_pool.DescriptorPool()
POOL.Add(echo_file())
ECHO = POOL.FindServiceByName("tests.Echo")
Text: Any = message_factory.GetMessageClass(POOL.FindMessageTypeByName("tests.Text"))


class EchoServicer:
    async def _once(self, request: Any, call: Call) -> Any:
        if not request.text:
            raise InvalidArgument("text", "is empty")
        return request

    async def _spell(self, request: Any, call: Call) -> AsyncIterator[Any]:
        for letter in request.text:
            yield Text(text=letter)

    Once, Spell = _once, _spell


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def tokens(tmp_path: Path) -> Reloadable[Tokens]:
    file = tmp_path / "tokens"
    file.write_text(f"alice {TOKEN}\n")
    return Reloadable("tokens", lambda: read_tokens(file))


@pytest.fixture
async def channel(metrics: Metrics, tokens: Reloadable[Tokens]) -> AsyncIterator[grpc.aio.Channel]:
    receiver = Receiver(2**20)
    server = GrpcServer(
        ServerConfig(port=0),
        Border(metrics, Gate(), receiver, Sender(60, metrics), Callers()),
        receiver,
        [Service(ECHO, EchoServicer())],
        Health([ECHO.full_name], metrics, may_use),
        tokens,
        None,
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop(0)


async def once(channel: grpc.aio.Channel, text: str, metadata: Any = BEARER) -> str:
    """The echo, or the code and text of the refusal."""
    call = channel.unary_unary("/tests.Echo/Once", Text.SerializeToString, Text.FromString)
    try:
        return str((await call(Text(text=text), metadata=metadata, timeout=PATIENCE_S)).text)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"


async def test_its_calls_are_answered_and_refused(channel: grpc.aio.Channel) -> None:
    assert await once(channel, "hello") == "hello"
    assert await once(channel, "") == "INVALID_ARGUMENT text: is empty"
    spell = channel.unary_stream("/tests.Echo/Spell", Text.SerializeToString, Text.FromString)
    letters = [reply.text async for reply in spell(Text(text="abc"), metadata=BEARER, timeout=PATIENCE_S)]
    assert letters == ["a", "b", "c"]


async def test_its_calls_need_a_token_and_are_counted_and_logged(
    channel: grpc.aio.Channel, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="progan_service.requests")
    assert (await once(channel, "hello", metadata=())).startswith("UNAUTHENTICATED a token is needed")
    assert await once(channel, "hello") == "hello"
    lines = [vars(record)["fields"] for record in caplog.records]
    assert [(line["method"], line["code"], line.get("caller")) for line in lines] == [
        ("Once", "UNAUTHENTICATED", None),
        ("Once", "OK", "alice"),
    ]
    for code in ("UNAUTHENTICATED", "OK"):
        labels = {"method": "Once", "model": "", "code": code}
        assert metrics.registry.get_sample_value("progan_requests_total", labels) == 1


async def test_bytes_that_are_no_message_of_it_are_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="request: does not parse as the message of this rpc"):
        await channel.unary_unary("/tests.Echo/Once")(b"\xff", metadata=BEARER, timeout=PATIENCE_S)
