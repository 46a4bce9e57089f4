"""What a token allows, on a server with the models `labelled`, `puppet` (the default) and `wide`."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server

PATIENCE_S = 60
SERVICE = "progan.v1.ImageGeneratorService"
NAMES = ("alice", "bob", "carol", "dora")

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]

FILE = """
alice  alice-token-0123456789   models=puppet,wide
bob    bob-token-0123456789     images_per_s=0.01 images_at_once=4
bob    second-token-0123456789  images_per_s=0.01 images_at_once=4
carol  carol-token-0123456789   images_per_s=50 images_at_once=5
dora   dora-token-0123456789
"""


class Host:
    """A server with tokens, and calls to it."""

    def __init__(self, server: Server, tokens: Path) -> None:
        self.server = server
        self.tokens = tokens
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        self._stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def call(self, rpc: str, name: str, request: Any) -> Any:
        bearer = (("authorization", f"Bearer {name}-token-0123456789"),)
        return getattr(self._stub, rpc)(request, metadata=bearer, timeout=PATIENCE_S)

    def generate(self, name: str, images: int, model: str = "") -> int:
        reply = self.call("Generate", name, pb.GenerateRequest(latents=seeds(images), model=selected(model)))
        return int(reply.images.count)

    def stream(self, name: str, images: int, model: str = "") -> list[int]:
        """The first index of each part."""
        request = pb.StreamGenerateRequest(latents=seeds(images), model=selected(model))
        return [part.first_index for part in self.call("StreamGenerate", name, request)]

    def reload(self, text: str) -> None:
        self.tokens.write_text(text)
        asyncio.run(self.server.reload())

    def metric(self, name: str, **labels: str) -> float | None:
        value: float | None = self.server._metrics.registry.get_sample_value(name, labels)
        return value


def seeds(count: int) -> pb.Latents:
    return pb.Latents(seed_range=pb.SeedRange(count=count))


def selected(model: str) -> pb.ModelSelector:
    return pb.ModelSelector(name=model)


@pytest.fixture
def host(puppet_store: Path, run_server: RunServer, tmp_path: Path) -> Iterator[Host]:
    tokens = tmp_path / "tokens"
    tokens.write_text(FILE)
    tokens.chmod(0o600)
    config = ServerConfig(puppet_store, model="puppet", port=0, http_port=0, lame_duck_s=0, tokens=tokens)
    with run_server(config) as server:
        host = Host(server, tokens)
        yield host
        host.channel.close()


def refused(call: Callable[[], Any]) -> tuple[str, str, str]:
    """Code, reason and text."""
    error = failed(call)
    [info] = [found for found in details(error) if isinstance(found, error_details_pb2.ErrorInfo)]
    return error.code().name, info.reason, error.details()


def failed(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def details(error: Any) -> list[Any]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo)
    return [found for packed in status.details for kind in kinds if packed.Unpack(found := kind())]


RPCS = {
    "Generate": lambda model: pb.GenerateRequest(latents=seeds(1), model=selected(model)),
    "StreamGenerate": lambda model: pb.StreamGenerateRequest(latents=seeds(1), model=selected(model)),
    "Interpolate": lambda model: pb.InterpolateRequest(key_frames=seeds(2), model=selected(model)),
    "Invert": lambda model: pb.InvertRequest(model=selected(model)),
    "GetModel": lambda model: pb.GetModelRequest(name=model),
}


def denied(host: Host, rpc: str, model: str) -> tuple[str, str, str]:
    """How alice is refused."""
    return refused(lambda: list(host.call(rpc, "alice", RPCS[rpc](model))))


DENIED = ("PERMISSION_DENIED", "PERMISSION_DENIED", "'alice' may use these models only: puppet, wide")


def test_a_caller_uses_and_sees_the_models_of_its_token_only(host: Host) -> None:
    assert (host.generate("alice", 1), host.generate("alice", 1, "wide")) == (1, 1)
    assert host.call("GetModel", "dora", pb.GetModelRequest(name="labelled")).model.name == "labelled"
    assert [denied(host, rpc, model) for rpc in RPCS for model in ("labelled", "nothing")] == [DENIED] * 10
    listed = {name: host.call("ListModels", name, pb.ListModelsRequest()).models for name in ("alice", "dora")}
    assert [model.name for model in listed["alice"]] == ["puppet", "wide"]
    assert [model.name for model in listed["dora"]] == ["labelled", "puppet", "wide"]
    assert host.metric("progan_caller_refusals_total", caller="alice", reason="permission") == 10


@pytest.mark.parametrize("rpc", RPCS)
def test_a_caller_learns_no_names_of_models_that_it_may_not_use(host: Host, rpc: str) -> None:
    host.reload("alice alice-token-0123456789 models=wide,gone\nbob bob-token-0123456789 models=gone\n")
    assert denied(host, rpc, "gone")[2].endswith("no model 'gone'; this server has: wide")
    assert refused(lambda: list(host.call(rpc, "bob", RPCS[rpc](""))))[2].endswith(
        "no model 'gone'; this server has: none"
    )


def test_the_default_model_that_is_not_there_reveals_no_others(
    puppet_store: Path, run_server: RunServer, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("alice alice-token-0123456789 models=wide,gone\n")
    tokens.chmod(0o600)
    with run_server(
        ServerConfig(puppet_store, model="gone", port=0, http_port=0, lame_duck_s=0, tokens=tokens)
    ) as server:
        host = Host(server, tokens)
        text = denied(host, "GetModel", "")[2]
        host.channel.close()
    assert text == "model 'gone', the default, is not in the store yet; it holds: wide"


def test_health_lists_the_models_of_a_caller(host: Host) -> None:
    stub = health_pb2_grpc.HealthStub(host.channel)

    def names(caller: str) -> list[str]:
        bearer = (("authorization", f"Bearer {caller}-token-0123456789"),)
        return sorted(stub.List(health_pb2.HealthListRequest(), metadata=bearer, timeout=PATIENCE_S).statuses)

    assert names("alice") == ["", SERVICE, f"{SERVICE}/puppet", f"{SERVICE}/wide"]
    assert names("dora") == ["", SERVICE, f"{SERVICE}/labelled", f"{SERVICE}/puppet", f"{SERVICE}/wide"]


def test_the_default_model_needs_permission_too(host: Host) -> None:
    host.reload("alice alice-token-0123456789 models=labelled,wide\n")
    sentence = "'alice' may use these models only: labelled, wide; the default is none of them, name one"
    assert refused(lambda: host.generate("alice", 1)) == ("PERMISSION_DENIED", "PERMISSION_DENIED", sentence)
    assert host.generate("alice", 1, "wide") == 1


def test_where_no_model_is_the_default_a_caller_learns_its_own_models_only(
    puppet_store: Path, run_server: RunServer, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(FILE)
    tokens.chmod(0o600)
    with run_server(ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, tokens=tokens)) as server:
        host = Host(server, tokens)
        assert refused(lambda: host.generate("alice", 1)) == (
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
            "model.name: is empty, and 'alice' may use several models: puppet, wide; none of them is the default",
        )
        assert refused(lambda: host.generate("dora", 1))[2] == (
            "model.name: is empty, and this server has several models: labelled, puppet, wide; "
            "none is the default (an operator chooses it: progan models default NAME)"
        )
        host.channel.close()


def test_the_only_model_of_a_caller_is_its_default(host: Host) -> None:
    host.reload("alice alice-token-0123456789 models=wide\n")
    assert host.generate("alice", 1) == 1
    (model,) = host.call("ListModels", "alice", pb.ListModelsRequest()).models
    assert (model.name, model.is_default) == ("wide", True)


def test_health_is_for_everybody(host: Host) -> None:
    stub = health_pb2_grpc.HealthStub(host.channel)
    request = health_pb2.HealthCheckRequest(service=f"{SERVICE}/labelled")
    assert stub.Check(request, timeout=PATIENCE_S).status == health_pb2.HealthCheckResponse.SERVING


def test_a_used_up_quota_is_refused_with_the_time_to_come_back_and_nobody_else_is(host: Host) -> None:
    assert host.generate("bob", 3) == 3
    error = failed(lambda: host.generate("bob", 3))
    info, retry = details(error)
    assert (error.code().name, info.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert error.details().startswith("'bob' may have 0.01 images/s, 4 at once; try again in ")
    retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    assert 100 < retry_s <= 200  # one image is there, and two are missing
    pushback_ms = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
    assert pushback_ms == pytest.approx(retry_s * 1000, abs=1)
    assert host.generate("bob", 1) == 1  # all or nothing: the refused call took nothing
    assert refused(lambda: host.generate("second", 1))[1] == "QUOTA_EXCEEDED"  # a token of the same name
    assert refused(lambda: host.stream("bob", 1))[1] == "QUOTA_EXCEEDED"
    assert (host.generate("dora", 16), host.generate("carol", 5)) == (16, 5)


def test_a_call_that_no_quota_will_ever_allow_is_no_matter_of_time(host: Host) -> None:
    assert refused(lambda: host.generate("bob", 5)) == (
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "latents: asks for 5 images; 'bob' may have 4 at once, use StreamGenerate",
    )
    assert host.generate("bob", 4) == 4


def test_a_stream_is_slowed_down_to_its_quota_and_ends_with_its_last_image(host: Host) -> None:
    began = time.monotonic()
    assert host.stream("carol", 30) == [0, 5, 10, 15, 20, 25]
    assert time.monotonic() - began > 0.49  # 5 at once, and 25 more at 50 a second
    time.sleep(0.2)
    began = time.monotonic()
    walk = pb.InterpolateRequest(key_frames=seeds(2), frames_between=28)
    assert sum(part.images.count for part in host.call("Interpolate", "carol", walk)) == 30
    assert time.monotonic() - began > 0.49


def test_calls_images_and_refusals_are_counted_by_caller_from_zero_while_it_has_a_token(host: Host) -> None:
    def counted() -> list[tuple[float | None, ...]]:
        return [
            (
                host.metric("progan_caller_requests_total", caller=name),
                host.metric("progan_caller_images_total", caller=name),
                host.metric("progan_caller_refusals_total", caller=name, reason="quota"),
                host.metric("progan_caller_refusals_total", caller=name, reason="permission"),
            )
            for name in NAMES
        ]

    assert counted() == [(0, 0, 0, 0)] * 4
    host.generate("bob", 4)
    host.stream("dora", 10)
    refused(lambda: host.generate("bob", 1))
    assert counted() == [(0, 0, 0, 0), (2, 4, 1, 0), (0, 0, 0, 0), (1, 10, 0, 0)]
    host.reload("bob bob-token-0123456789\nerin erin-token-0123456789\n")
    assert counted() == [(None,) * 4, (2, 4, 1, 0), (None,) * 4, (None,) * 4]
    assert host.metric("progan_caller_images_total", caller="erin") == 0


def test_a_reload_keeps_what_a_caller_has_used_up(host: Host) -> None:
    host.generate("bob", 4)
    host.reload(FILE.replace("images_per_s=50", "images_per_s=60"))
    assert refused(lambda: host.generate("bob", 1))[1] == "QUOTA_EXCEEDED"
    host.reload(FILE.replace("images_at_once=4", "images_at_once=5"))
    assert refused(lambda: host.generate("bob", 5))[1] == "QUOTA_EXCEEDED"
