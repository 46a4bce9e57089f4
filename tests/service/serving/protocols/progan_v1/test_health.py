"""The health of a server and its models, from the first look at the store until it has drained."""

import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from progan_v1 import (
    NOT_SERVING,
    PATIENCE_S,
    SERVICE,
    SERVING,
    WAIT,
    WIDE_IMAGES,
    Guest,
    begin_waiting,
    configured,
    greys,
    guest,
    refusal,
    settled,
    until,
    wide_stream,
)

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.config import ServerConfig
from progan_service.serving.listen import ListenError


def test_before_loading_a_server_is_alive_and_not_ready_and_afterwards_both(puppet_store: Path) -> None:
    with guest(configured(puppet_store), loaded=False) as host:
        names = ("", SERVICE, f"{SERVICE}/puppet")
        assert [host.health(name) for name in names] == [SERVING, NOT_SERVING, NOT_SERVING]
        assert (host.http("/livez"), host.http("/readyz")) == ((200, "alive\n"), (503, "not ready\n"))
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.reason, refused.text) == (
            "UNAVAILABLE",
            "UNAVAILABLE",
            "model 'puppet' is still loading",
        )
        host.do(host.server.refresh())
        assert [host.health(name) for name in names] == [SERVING, SERVING, SERVING]
        assert (host.http("/livez"), host.http("/readyz")) == ((200, "alive\n"), (200, "ready\n"))


def test_health_lists_the_process_the_service_and_its_models(puppets: Guest) -> None:
    stub = health_pb2_grpc.HealthStub(puppets.channel)
    statuses = stub.List(health_pb2.HealthListRequest(), timeout=PATIENCE_S).statuses
    assert {name: entry.status for name, entry in statuses.items()} == {
        "": SERVING,
        SERVICE: SERVING,
        f"{SERVICE}/labelled": SERVING,
        f"{SERVICE}/puppet": SERVING,
        f"{SERVICE}/wide": SERVING,
    }


def test_health_of_an_unknown_name_is_not_found(puppets: Guest) -> None:
    assert refusal(lambda: puppets.health(f"{SERVICE}/cats")).code == "NOT_FOUND"


def test_an_empty_store_is_alive_and_not_ready(tmp_path: Path) -> None:
    with guest(configured(tmp_path, model="")) as host:
        assert [host.health(""), host.health(SERVICE)] == [SERVING, NOT_SERVING]
        assert host.http("/readyz")[0] == 503
        assert not host.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.text) == ("UNAVAILABLE", "this server has no model yet: its store is empty")


def test_with_two_replicas_a_long_batch_holds_up_nobody(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, replicas=2)) as host:
        running = host.begin_generate(WAIT)
        host.queued(0)
        assert [host.generate((shade, 0, 0, 1)).images.pixels[0] for shade in (1, 2, 3)] == [110, 120, 130]
        assert not running.done()
        hold.unlink()
        assert running.result().images.count == 1


def test_a_model_whose_device_hangs_is_not_ready_until_it_goes_on(
    puppet_store: Path, hold: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with guest(configured(puppet_store, hang_s=1)) as host:
        running = host.begin_generate(WAIT)
        until(lambda: host.do(host.server.watch_devices()) or host.health(f"{SERVICE}/puppet") == NOT_SERVING)
        assert [host.health(""), host.health(f"{SERVICE}/wide")] == [SERVING, SERVING]
        assert "model puppet: a batch runs for more than 1 s; not ready until it ends" in caplog.text
        hold.unlink()
        assert running.result().images.count == 1
        host.do(host.server.watch_devices())
        assert host.health(f"{SERVICE}/puppet") == SERVING


def test_a_lame_duck_says_not_ready_and_serves_on(puppet_store: Path) -> None:
    with guest(configured(puppet_store, lame_duck_s=PATIENCE_S)) as host:
        host.begin_stop()
        until(lambda: host.health(SERVICE) == NOT_SERVING)
        assert [host.health(""), host.health(f"{SERVICE}/puppet")] == [SERVING, NOT_SERVING]
        assert host.http("/readyz")[0] == 503
        assert greys(host.generate((5, 0, 0, 0)).images) == [150]
        host.begin_stop(lame_duck=False)


def test_draining_finishes_streams_and_calls_in_flight_and_refuses_new_ones(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, drain_s=PATIENCE_S)) as host:
        stream = wide_stream(host, 400)
        came = next(stream).images.count
        settled(lambda: host.metric(WIDE_IMAGES))  # held back by its reader
        calls = begin_waiting(host, 8)
        host.begin_stop()
        until(lambda: host.health(SERVICE) == NOT_SERVING)
        time.sleep(0.1)
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "UNAVAILABLE")
        assert refused.text == "the server is shutting down; ask another one"
        hold.unlink()
        assert [call.result().images.count for call in calls] == [1, 8]
        assert came + sum(reply.images.count for reply in stream) == 400


def test_what_draining_does_not_finish_in_time_is_unavailable(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, drain_s=0.05)) as host:
        stream = wide_stream(host, 1_000_000)
        next(stream)
        settled(lambda: host.metric(WIDE_IMAGES))
        calls = begin_waiting(host, 8)
        host.begin_stop()
        refusals = [refusal(call.result) for call in calls]
        assert [(one.code, one.reason) for one in refusals] == [("UNAVAILABLE", "UNAVAILABLE")] * 2
        assert refusal(lambda: list(stream)).code == "UNAVAILABLE"
        hold.unlink()


def test_a_taken_grpc_port_is_refused_in_one_sentence(puppets: Guest, puppet_store: Path) -> None:
    port = puppets.server.port
    with pytest.raises(ListenError) as refused:
        Guest(ServerConfig(puppet_store, port=port, http_port=0))
    assert str(refused.value) == (
        f"the gRPC port cannot be opened on 127.0.0.1:{port}: Address already in use; try another --port or --host"
    )


def test_a_taken_http_port_is_refused_in_one_sentence(puppets: Guest, puppet_store: Path) -> None:
    port = puppets.server.http_port
    with pytest.raises(ListenError, match=f"the HTTP port cannot be opened on 127.0.0.1:{port}: .* --http-port or"):
        Guest(ServerConfig(puppet_store, port=0, http_port=port))


def test_a_server_listens_on_an_ipv6_address_too(tmp_path: Path) -> None:
    with guest(ServerConfig(tmp_path, host="::1", port=0, http_port=0, lame_duck_s=0)) as host:
        url = f"http://[::1]:{host.server.http_port}/livez"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
            assert reply.status == 200
        with grpc.insecure_channel(f"[::1]:{host.server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status == SERVING
