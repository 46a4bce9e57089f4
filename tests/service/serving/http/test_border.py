"""What every call over HTTP passes, whatever it says: tokens, deadlines, departures, accounts."""

import asyncio
import base64
import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web import Web

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server

ALICE = {"Authorization": "Bearer alices-token-0123456789"}
PATIENCE_S = 60
GENERATE = "/progan.v1.ImageGeneratorService/Generate"
ONE = {"latents": {"seedRange": {"count": 1}}}
WAIT = struct.pack("<4f", 0, 0, 99, 0)  # see conftest.py of the servers


def waiting(rows: int = 1) -> bytes:
    """A request whose images are made once the file `.hold` is gone."""
    values = base64.b64encode(WAIT * rows).decode()
    return json.dumps({"latents": {"vectors": {"rows": rows, "columns": 4, "values": values}}}).encode()


def metric(web: Web, sample: str) -> float:
    lines = web.get("/metrics").body.decode().splitlines()
    return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample + " "))


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level("INFO", logger="progan_service.requests")
    return lambda: [fields for record in caplog.records if "code" in (fields := vars(record).get("fields", {}))]


# --- tokens ---


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"])
def test_health_and_metrics_need_no_token(guarded: Server, path: str) -> None:
    assert Web(guarded.http_port).get(path).status == 200


def test_everything_else_needs_one(guarded: Server) -> None:
    stranger = Web(guarded.http_port)
    answer = stranger.get("/v1/images/tiny/7.png")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json == {"error": "a token is needed: send `authorization: Bearer TOKEN` with the call"}
    answer = stranger.post(GENERATE, ONE)
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    for wrong in ("Bearer x", "Basic eDp5", "Bearer ", "Bearer alices-token-0123456789\xff"):
        assert stranger.get("/v1/images/tiny/7.png", Authorization=wrong).status == 401
    for right in (ALICE["Authorization"], " Bearer  alices-token-0123456789 "):
        assert stranger.get("/v1/images/tiny/7.png", Authorization=right).status == 200


def test_a_token_is_asked_for_before_the_request_is_read(guarded: Server) -> None:
    with socket.create_connection(("localhost", guarded.http_port), timeout=PATIENCE_S) as caller:
        head = f"POST {GENERATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        caller.sendall(head.encode())
        assert caller.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_token_allows_its_models_only(guarded: Server) -> None:
    bob = Web(guarded.http_port, headers={"Authorization": "Bearer bobs-token-0123456789"})
    answer = bob.get("/v1/images/tiny/7.png")
    assert (answer.status, answer.json["error"]) == (403, "'bob' may use these models only: other")


# --- accounts ---


def test_a_call_is_logged_and_counted(web: Web, logged: Callable[[], list[dict[str, Any]]]) -> None:
    sample = 'progan_requests_total{code="OK",method="Generate",model="puppet"}'
    before = metric(web, sample)
    answer = web.post(GENERATE, {"latents": {"seedRange": {"count": 3}}}, X_Request_Id="mine")
    assert answer.headers["x-request-id"] == "mine"
    until(lambda: metric(web, sample) == before + 1)
    [line] = logged()
    known = {key: line[key] for key in ("method", "code", "model", "version", "images", "format", "request_id")}
    assert known == {
        **{"method": "Generate", "code": "OK", "model": "puppet", "version": 2},
        **{"images": 3, "format": "RAW", "request_id": "mine"},
    }
    assert line["peer"].startswith("ipv4:127.0.0.1:")


def test_a_refusal_is_logged_too_and_an_id_is_given(web: Web, logged: Callable[[], list[dict[str, Any]]]) -> None:
    answer = web.post(GENERATE, b"{")
    assert len(answer.headers["x-request-id"]) == 16
    until(lambda: len(logged()) == 1)
    [line] = logged()
    assert (line["method"], line["code"], line["request_id"]) == (
        *("Generate", "INVALID_ARGUMENT"),
        answer.headers["x-request-id"],
    )


def test_a_fault_is_told_to_the_log_and_not_to_the_caller(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    values = struct.pack("<4f", 0, 99, 0, 0)  # makes the graph fail
    vectors = {"rows": 1, "columns": 4, "values": base64.b64encode(values).decode()}
    answer = web.post(GENERATE, {"latents": {"vectors": vectors}})
    assert answer.status == 500
    assert answer.json["message"].startswith("internal error; the server's log has it under id ")
    incident = answer.json["message"].split()[-1]
    assert any(incident in message for message in caplog.messages)
    assert b"secret" not in answer.body


# --- deadlines and departures ---


@pytest.mark.parametrize(
    ("model", "header"),  # a model that has waited once would refuse the next call for its deadline
    [("puppet", {"Connect-Timeout-Ms": "100"}), ("wide", {"grpc-timeout": "100m"})],
)
def test_a_deadline_ends_a_call(web: Web, hold: Path, model: str, header: dict[str, str]) -> None:
    request = json.dumps({"model": {"name": model}, **json.loads(waiting())})
    answer = web.ask("POST", GENERATE, request, {"Content-Type": "application/json", **header})
    assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"Connect-Timeout-Ms": "soon"}, "connect-timeout-ms: holds 'soon'; must be a number of at most 10 digits"),
        ({"Connect-Timeout-Ms": "9" * 11}, f"connect-timeout-ms: holds '{'9' * 11}'; must be a number"),
        ({"grpc-timeout": "3"}, "grpc-timeout: is '3'; must end with one of H, M, S, m, u, n"),
        ({"grpc-timeout": ""}, "grpc-timeout: is ''; must end with one of H, M, S, m, u, n"),
    ],
)
def test_a_deadline_that_is_none_is_refused(web: Web, header: dict[str, str], sentence: str) -> None:
    answer = web.ask("POST", GENERATE, json.dumps(ONE), {"Content-Type": "application/json", **header})
    assert answer.status == 400
    assert answer.json["message"].startswith(sentence)


def test_nothing_is_made_for_a_caller_who_has_left(
    web: Web, hold: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    dropped = 'progan_rows_dropped_total{model="puppet",reason="cancelled"}'
    rows = 'progan_queue_rows{model="puppet",priority="interactive"}'
    before = metric(web, dropped)
    callers = [web.connect() for _ in range(2)]
    callers[0].request("POST", GENERATE, waiting(4), {"Content-Type": "application/json"})
    until(lambda: metric(web, rows) == 0 and metric(web, "progan_unsent_bytes") > 0)
    callers[1].request("POST", GENERATE, waiting(4), {"Content-Type": "application/json"})
    until(lambda: metric(web, rows) == 4)
    for caller in callers:
        caller.close()
    until(lambda: metric(web, rows) == 0 and metric(web, "progan_unsent_bytes") == 0)
    assert metric(web, dropped) > before
    until(lambda: [line["code"] for line in logged()] == ["CANCELLED", "CANCELLED"])


def test_a_caller_who_takes_nothing_is_cut_off(puppet_store: Path, run_server: Any) -> None:
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="wide", stall_s=0.5)
    with run_server(config) as server:
        web = Web(server.http_port)
        sent = json.dumps({"latents": {"seedRange": {"count": 100_000}}}).encode()
        frame = b"\0" + len(sent).to_bytes(4, "big") + sent
        caller = web.connect()
        path = "/progan.v1.ImageGeneratorService/StreamGenerate"
        caller.request("POST", path, frame, {"Content-Type": "application/connect+json"})
        until(lambda: metric(web, "progan_stalled_readers_total") == 1)
        until(lambda: metric(web, "progan_unsent_bytes") == 0)
        sample = 'progan_requests_total{code="CANCELLED",method="StreamGenerate",model="wide"}'
        until(lambda: metric(web, sample) == 1)
        caller.close()


def test_too_many_calls_at_a_time_are_refused_and_probes_are_not(puppet_store: Path, run_server: Any) -> None:
    batching = BatchingConfig(max_batch_size=4)
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet", batching=batching)
    hold = puppet_store / ".hold"
    hold.touch()
    with run_server(config) as server:
        web = Web(server.http_port)
        callers = [web.connect() for _ in range(80)]
        try:
            for caller in callers:
                caller.request("POST", GENERATE, waiting(), {"Content-Type": "application/json"})
            until(lambda: web.post(GENERATE, ONE, Connect_Timeout_Ms="200").status == 429)
            answer = web.get("/v1/images/puppet/7.png")
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
            assert answer.json == {"error": "80 calls run over HTTP; there may be no more at a time"}
            assert web.get("/livez").status == 200
        finally:
            hold.unlink()
        assert {caller.getresponse().status for caller in callers} == {200}
        for caller in callers:
            caller.close()


async def test_a_server_that_ends_finishes_its_calls_and_refuses_others(puppet_store: Path, hold: Path) -> None:
    server = Server(ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet"))
    await server.start()
    await server.refresh()
    web = Web(server.http_port)
    caller = web.connect()
    caller.request("POST", GENERATE, waiting(), {"Content-Type": "application/json"})
    await asyncio.to_thread(until, lambda: metric(web, "progan_unsent_bytes") > 0)
    stopping = asyncio.create_task(server.stop())
    await asyncio.to_thread(until, lambda: web.get("/v1/images/puppet/7.png").status == 503)
    ready, live = web.get("/v2/health/ready"), web.get("/v2/health/live")  # this loop is blocked meanwhile
    assert (ready.status, ready.json, live.status, live.json) == (503, {"ready": False}, 200, {"live": True})
    hold.unlink()
    answer = await asyncio.to_thread(caller.getresponse)
    assert answer.status == 200
    await stopping
    caller.close()


# --- foreign pages ---


def test_a_foreign_page_gets_nothing(web: Web) -> None:
    for path in ("/", "/metrics", "/v1/images/puppet/7.png"):
        answer = web.get(path, Origin="https://evil.example")
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
        assert web.get(path, Host="evil.example").status == 403
    assert web.ask("OPTIONS", GENERATE, headers={"Origin": "https://evil.example"}).status == 403
