"""Strangers stay outside: certificates, warnings, and servers with tokens, TLS and limits, on free loopback ports."""

import asyncio
import datetime
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from progan_client import Client, Tls, UnauthenticatedError
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.errors import ConfigError
from progan_service.serving.access.certificates import read_certificates
from progan_service.serving.access.exposure import warnings
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import read_tokens
from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc import transport
from progan_service.serving.grpc.accepting import AcceptingServer
from progan_service.serving.grpc.auth import Authentication
from progan_service.serving.grpc.border import Border
from progan_service.serving.grpc.connections import Callers
from progan_service.serving.grpc.receiving import Receiver
from progan_service.serving.grpc.sending import Sender
from progan_service.serving.models.gate import Gate
from progan_service.serving.protocols.service import Service
from progan_service.serving.server import Server
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]

SERVICE = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]
PROGAN = Path(sys.executable).with_name("progan")
PATIENCE_S = 60
ALICE, BOB, NEW_BOB = "alices-token-0123456789", "bobs-token-0123456789", "bobs-new-token-0123456789"
UNKNOWN_TOKEN = "the token is not known to this server"
NO_TOKEN = "a token is needed: send `authorization: Bearer TOKEN` with the call"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


# --- the files of certificates ---


class Pki:
    """An authority, and certificates of it in files, laid out as Kubernetes mounts a secret."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self._folder = folder
        self._count = 0

    def certificate(self, **options: Any) -> trustme.LeafCert:
        return self.authority.issue_cert("localhost", **options)

    @property
    def root(self) -> bytes:
        return self.authority.cert_pem.bytes()

    def write(self, certificate: trustme.LeafCert, *, key: bytes = b"", client_ca: bytes = b"") -> tuple[Path, Path]:
        """Paths of certificate and key. The files are swapped, all at once, by a link to the folder that holds them."""
        self._count += 1
        version = self._folder / f"..{self._count}"
        version.mkdir(parents=True)
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        files = {"tls.crt": chain, "tls.key": key or certificate.private_key_pem.bytes(), "ca.crt": client_ca}
        for name, content in files.items():
            (version / name).write_bytes(content)
            os.utime(version / name, (1, 1))  # times tell nothing
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        (self._folder / "..next").symlink_to(version.name)
        (self._folder / "..next").rename(self._folder / "..data")
        return self._folder / "tls.crt", self._folder / "tls.key"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "secret")


def test_a_pair_that_fits_is_read_with_all_that_vouch_for_it(pki: Pki) -> None:
    between = pki.authority.create_child_ca()
    certificate = between.issue_cert("localhost")
    chain, key = pki.write(certificate)
    found = read_certificates(chain, key, None)
    assert found.chain.count(b"BEGIN CERTIFICATE") == 2
    assert found.expires_at == x509.load_pem_x509_certificate(found.chain).not_valid_after_utc.timestamp()
    assert found.key == certificate.private_key_pem.bytes()


def test_no_repr_of_tokens_and_certificates_contains_a_secret(tokens: Path, pki: Pki) -> None:
    chain, key = pki.write(pki.certificate())
    shown = f"{read_tokens(tokens)!r} {read_certificates(chain, key, None)!r} {ServerConfig(tokens=tokens)!r}"
    assert not re.search("0123456789|PRIVATE KEY|entries", shown)


def test_a_key_of_another_certificate_is_refused(pki: Pki) -> None:
    chain, key = pki.write(pki.certificate(), key=pki.certificate().private_key_pem.bytes())
    with pytest.raises(ConfigError) as refusal:
        read_certificates(chain, key, None)
    assert str(refusal.value) == f"{key}: is not the key of the first certificate in {chain}"


def with_passphrase(certificate: trustme.LeafCert) -> bytes:
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)


def test_a_key_that_is_half_written_or_needs_a_passphrase_is_refused(pki: Pki) -> None:
    certificate = pki.certificate()
    for broken in (certificate.private_key_pem.bytes()[:100], with_passphrase(certificate)):
        chain, key = pki.write(certificate, key=broken)
        with pytest.raises(ConfigError) as refusal:
            read_certificates(chain, key, None)
        assert str(refusal.value) == f"{key}: must contain a complete private key in PEM form, without a passphrase"


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_what_is_no_whole_certificate_is_refused(pki: Pki, content: bytes) -> None:
    chain, key = pki.write(pki.certificate(), client_ca=content)
    authorities = chain.with_name("ca.crt")
    for paths in ((chain, key, authorities), (authorities, key, None)):
        with pytest.raises(ConfigError) as refusal:
            read_certificates(*paths)
        assert str(refusal.value) == f"{authorities}: must contain complete certificates in PEM form"


@pytest.mark.parametrize(
    ("years", "problem"),
    [((2020, 2021), "certificate has expired"), ((2990, 2991), "certificate is not yet valid")],
)
def test_a_certificate_that_no_client_takes_today_is_refused(pki: Pki, years: tuple[int, int], problem: str) -> None:
    first, last = (datetime.datetime(year, 1, 1) for year in years)
    chain, key = pki.write(pki.certificate(not_before=first, not_after=last))
    with pytest.raises(ConfigError) as refusal:
        read_certificates(chain, key, None)
    assert str(refusal.value) == f"{chain}: clients would not accept it: {problem}"


# --- what an operator is warned of ---


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"host": "localhost"}, []),
        ({"host": "::1"}, []),
        (
            {"host": "0.0.0.0"},
            [
                "listening on 0.0.0.0 without TLS and tokens: anyone may call and read on the network; "
                "set --tls-cert, --tls-key and --tokens"
            ],
        ),
        (
            {"host": "::", "tls": True},
            ["listening on :: without tokens: anyone may call; set --tokens or --client-ca"],
        ),
        (
            {"host": "10.0.0.1", "tokens": True},
            [
                "listening on 10.0.0.1 without TLS: tokens and images can be read on the network; "
                "set --tls-cert and --tls-key"
            ],
        ),
        ({"host": "0.0.0.0", "tls": True, "tokens": True}, []),
        ({"host": "0.0.0.0", "tls": True, "mtls": True}, []),
    ],
)
def test_a_server_that_strangers_can_reach_says_what_to_set(
    pki: Pki, tokens: Path, settings: dict[str, Any], expected: list[str]
) -> None:
    chain, key = pki.write(pki.certificate())
    key.chmod(0o600)
    config = ServerConfig(
        host=settings.get("host", "127.0.0.1"),
        tls_cert=chain if "tls" in settings else None,
        tls_key=key if "tls" in settings else None,
        client_ca=chain if "mtls" in settings else None,
        tokens=tokens if "tokens" in settings else None,
    )
    assert warnings(config) == expected


def test_secrets_that_every_user_can_read_are_reported(tokens: Path) -> None:
    tokens.chmod(0o644)
    assert warnings(ServerConfig(tokens=tokens)) == [
        f"{tokens} can be read by every user of this machine; run: chmod o= {tokens}"
    ]
    tokens.chmod(0o640)
    assert warnings(ServerConfig(tokens=tokens)) == []


# --- servers that ask for a token ---


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A store without models: such a server has a list to tell."""
    store = tmp_path / "models"
    store.mkdir()
    return store


def configured(store: Path, **settings: Any) -> ServerConfig:
    return ServerConfig(store, port=0, http_port=0, lame_duck_s=0, **settings)


@pytest.fixture
def guarded(run_server: RunServer, empty: Path, tokens: Path) -> Iterator[Server]:
    """A server that asks for the tokens of alice and bob."""
    with run_server(configured(empty, tokens=tokens)) as server:
        yield server


@contextmanager
def plain(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def list_models(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """The status code of the call, and what it says where it failed."""
    try:
        reply = pb_grpc.ImageGeneratorServiceStub(channel).ListModels(
            pb.ListModelsRequest(), timeout=PATIENCE_S, metadata=metadata
        )
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    assert not reply.models
    return "OK"


def test_a_call_needs_a_token(guarded: Server) -> None:
    with plain(guarded) as channel:
        assert list_models(channel) == f"UNAUTHENTICATED: {NO_TOKEN}"
        assert list_models(channel, bearer("nobodys-token-0123456789")) == f"UNAUTHENTICATED: {UNKNOWN_TOKEN}"
        assert list_models(channel, bearer(ALICE)) == "OK"
        assert list_models(channel, bearer(BOB)) == "OK"


def test_a_refusal_has_the_details_of_every_error_and_is_counted(guarded: Server) -> None:
    with plain(guarded) as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.ImageGeneratorServiceStub(channel).Generate(pb.GenerateRequest(), timeout=PATIENCE_S)
    refusal: Any = caught.value
    status = status_pb2.Status.FromString(dict(refusal.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("UNAUTHENTICATED", "progan")
    counted = {"method": "Generate", "model": "", "code": "UNAUTHENTICATED"}
    give_up = time.monotonic() + PATIENCE_S
    while guarded._metrics.registry.get_sample_value("progan_requests_total", counted) != 1:  # after the last byte
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The path of every method that any server gets from here on."""
    paths: set[str] = set()
    add = AcceptingServer.add_registered_method_handlers

    def noted(server: AcceptingServer, service: str, handlers: Any) -> None:
        paths.update(f"/{service}/{name}" for name in handlers)
        add(server, service, handlers)

    monkeypatch.setattr(AcceptingServer, "add_registered_method_handlers", noted)
    return paths


def test_every_method_of_the_server_but_those_of_health_needs_a_token(registered: set[str], guarded: Server) -> None:
    ours = {f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}
    health = {f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")}  # List would tell the models' names
    health |= {f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")}
    reflection = {f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")}
    assert ours | health | reflection <= registered
    silence = threading.Event()

    def nothing() -> Iterator[bytes]:
        silence.wait()
        yield from ()

    with plain(guarded) as channel:
        for path in sorted(registered - health | {f"/{SERVICE.full_name}/Nothing", "/nobody/Nothing"}):
            with pytest.raises(grpc.RpcError) as caught:
                next(channel.stream_stream(path)(nothing(), timeout=PATIENCE_S))  # refused before it says anything
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
        silence.set()


def test_health_needs_no_token(guarded: Server) -> None:
    with plain(guarded) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status == 1
        assert next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)).status == 1


def test_reflection_answers_a_caller_with_a_token(guarded: Server) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with plain(guarded) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        reply = next(stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE_S, metadata=bearer(ALICE)))
    assert "progan.v1.ImageGeneratorService" in [found.name for found in reply.list_services_response.service]


def test_tokens_come_and_go_while_the_server_runs(guarded: Server, tokens: Path) -> None:
    with plain(guarded) as channel:
        tokens.write_text(f"bob {BOB}\nbob {NEW_BOB}\n")
        asyncio.run(guarded.reload())
        assert list_models(channel, bearer(ALICE)) == f"UNAUTHENTICATED: {UNKNOWN_TOKEN}"
        assert [list_models(channel, bearer(token)) for token in (BOB, NEW_BOB)] == ["OK", "OK"]
        tokens.unlink()
        asyncio.run(guarded.reload())
        assert list_models(channel, bearer(NEW_BOB)) == "OK"


async def test_an_rpc_knows_the_name_of_its_caller(tokens: Path) -> None:
    callers = []

    async def answer(request: object, call: Call) -> pb.ListModelsResponse:
        callers.append(call.caller)
        return pb.ListModelsResponse()

    servicer = SimpleNamespace(**{method.name: answer for method in SERVICE.methods})
    border = Border(Metrics(), Gate(), Receiver(2**20), Sender(60, Metrics()), Callers())
    guard = Authentication(Reloadable("tokens", lambda: read_tokens(tokens)), border)
    server = grpc.aio.server(interceptors=[guard])
    server.add_registered_method_handlers(SERVICE.full_name, border.handlers(Service(SERVICE, servicer)))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.ImageGeneratorServiceStub(channel)
        await asyncio.gather(
            *(
                stub.ListModels(pb.ListModelsRequest(), metadata=bearer(token), timeout=PATIENCE_S)
                for token in (ALICE, BOB, ALICE)
            )
        )
    await server.stop(None)
    assert sorted(callers) == ["alice", "alice", "bob"]


def test_a_server_does_not_start_with_tokens_that_are_broken(run_server: RunServer, empty: Path, tokens: Path) -> None:
    tokens.write_text("alice\n")
    with pytest.raises(ConfigError, match="line 1: must be NAME TOKEN"), run_server(configured(empty, tokens=tokens)):
        pass


# --- servers with TLS ---


def secured(store: Path, paths: tuple[Path, Path], **settings: Any) -> ServerConfig:
    return configured(store, tls_cert=paths[0], tls_key=paths[1], **settings)


def trusting(server: Server, root: bytes, own: trustme.LeafCert | None = None) -> str:
    """How a call ends on a connection of its own that trusts `root`."""
    pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(root, *pair)
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.secure_channel(f"localhost:{server.port}", credentials, options) as channel:
        return list_models(channel).partition(":")[0]


def test_with_tls_a_client_meets_the_server_it_trusts_and_nobody_speaks_plain(
    run_server: RunServer, empty: Path, pki: Pki
) -> None:
    with run_server(secured(empty, pki.write(pki.certificate()))) as server:
        assert trusting(server, pki.root) == "OK"
        assert trusting(server, trustme.CA().cert_pem.bytes()) == "UNAVAILABLE"
        with plain(server) as channel:
            assert list_models(channel).startswith("UNAVAILABLE")


def test_new_certificates_are_shown_to_new_connections_without_a_restart(
    run_server: RunServer, empty: Path, tmp_path: Path
) -> None:
    old, new = Pki(tmp_path / "secret"), Pki(tmp_path / "secret")
    new._count = 10
    with run_server(secured(empty, old.write(old.certificate()))) as server:
        new.write(new.certificate())
        assert trusting(server, old.root) == "OK"  # until it has looked
        asyncio.run(server.reload())
        assert [trusting(server, pki.root) for pki in (old, new)] == ["UNAVAILABLE", "OK"]


def test_a_pair_that_does_not_fit_is_reported_once_and_the_old_one_stays_in_use(
    run_server: RunServer, empty: Path, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    with run_server(secured(empty, pki.write(pki.certificate()))) as server:
        chain, key = pki.write(pki.certificate(), key=pki.certificate().private_key_pem.bytes())
        for _ in range(4):
            asyncio.run(server.reload())
        assert trusting(server, pki.root) == "OK"
    problem = f"{key}: is not the key of the first certificate in {chain}; the old ones stay in use"
    assert caplog.messages.count(f"certificates were not reloaded: {problem}") == 1


def test_with_a_client_ca_only_its_clients_connect(run_server: RunServer, empty: Path, pki: Pki) -> None:
    clients, others = trustme.CA(), trustme.CA()
    paths = pki.write(pki.certificate(), client_ca=clients.cert_pem.bytes())
    with run_server(secured(empty, paths, client_ca=paths[0].with_name("ca.crt"))) as server:
        assert trusting(server, pki.root) == "UNAVAILABLE"
        assert trusting(server, pki.root, others.issue_cert("client")) == "UNAVAILABLE"
        assert trusting(server, pki.root, clients.issue_cert("client")) == "OK"

        pki.write(pki.certificate(), client_ca=clients.cert_pem.bytes() + others.cert_pem.bytes())
        asyncio.run(server.reload())
        assert [trusting(server, pki.root, ca.issue_cert("client")) for ca in (clients, others)] == ["OK", "OK"]


# --- a whole server, and clients of it ---


def test_a_server_answers_calls_with_a_token_and_prints_no_token(empty: Path, tokens: Path, pki: Pki) -> None:
    chain, key = pki.write(pki.certificate())
    key.chmod(0o644)
    root = tokens.with_name("root.pem")
    root.write_bytes(pki.root)
    command = [
        *(PROGAN, "serve", "--store", empty, "--port", "0", "--http-port", "0", "--lame-duck-s", "0"),
        *("--tls-cert", chain, "--tls-key", key, "--tokens", tokens, "--log-level", "debug"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout
        output = ""
        while not (found := re.search(r"gRPC 127\.0\.0\.1:(\d+)", output)):
            line = process.stdout.readline()
            assert line, output
            output += line
        target = f"localhost:{found[1]}"
        with Client(target, tls=Tls(root), token=ALICE) as alice:
            assert alice.models() == []
        with Client(target, tls=Tls(root), token="nobodys-token-0123456789") as nobody:
            assert nobody.health() == "NOT_SERVING"
            with pytest.raises(UnauthenticatedError, match="does not know the token"):
                nobody.models()
    finally:
        process.terminate()
        output += process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, output
    assert "0123456789" not in output  # which every token here holds
    assert "alice" in output
    assert f"{key} can be read by every user of this machine" in output


def test_a_server_with_a_broken_setting_ends_with_78_and_one_sentence(empty: Path, tokens: Path) -> None:
    tokens.write_text(f"{ALICE}\n")
    command = [PROGAN, "serve", "--store", empty, "--tokens", tokens]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 78
    assert f"{tokens}, line 1: must be NAME TOKEN; has one word" in ended.stderr


# --- limits on what a caller controls ---

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # and empty SETTINGS
PING = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)


@contextmanager
def connection(server: Server, *, preface: bytes = PREFACE) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as peer:
        peer.sendall(preface)
        yield peer


def test_a_connection_is_told_how_many_calls_and_how_much_metadata_it_may_send(
    run_server: RunServer, empty: Path
) -> None:
    with run_server(configured(empty)) as server, connection(server) as peer:
        length = int.from_bytes(peer.recv(9, socket.MSG_WAITALL)[:3])
        settings = dict(struct.iter_unpack(">HI", peer.recv(length, socket.MSG_WAITALL)))
    assert settings[3] == 4096  # SETTINGS_MAX_CONCURRENT_STREAMS
    assert settings[6] == 8192  # SETTINGS_MAX_HEADER_LIST_SIZE


def test_metadata_above_8_kib_is_refused(run_server: RunServer, empty: Path) -> None:
    with run_server(configured(empty)) as server, plain(server) as channel:
        assert list_models(channel, (("note", "x" * 7_000),)) == "OK"
        assert list_models(channel, (("note", "x" * 9_000),)).startswith("RESOURCE_EXHAUSTED: received metadata size")


def test_who_pings_without_end_is_cut_off(run_server: RunServer, empty: Path) -> None:
    with run_server(configured(empty)) as server, connection(server) as peer:
        answers = b""
        while b"too_many_pings" not in answers:
            peer.sendall(PING)
            answers += peer.recv(65536)
            assert answers.count(PING[3:4]) < 1000


def is_cut_off(peer: socket.socket) -> bool:
    peer.settimeout(5)
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_who_says_nothing_is_cut_off(run_server: RunServer, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_HANDSHAKE_S", 1)
    with run_server(configured(empty)) as server, connection(server, preface=b"") as peer:
        assert is_cut_off(peer)


def test_connections_are_limited(run_server: RunServer, empty: Path) -> None:
    with run_server(configured(empty, max_connections=1)) as server, connection(server) as first:
        assert first.recv(9)
        with connection(server, preface=b"") as second:
            assert is_cut_off(second)
