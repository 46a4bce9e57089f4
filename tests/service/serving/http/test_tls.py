"""The HTTP port with the server's certificate."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from web import Web

from progan_service.serving.access.certificates import read_certificates
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.http.probes import Reply
from progan_service.serving.http.server import HttpServer

PATIENCE_S = 60


class Secret:
    """The files of a certificate for localhost, of a new authority after each `renew`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.renew()
        self.files = Reloadable(
            "certificates", lambda: read_certificates(folder / "crt", folder / "key", folder / "ca")
        )

    def renew(self) -> None:
        self.authority = trustme.CA()
        certificate = self.authority.issue_cert("localhost")
        certificate.cert_chain_pems[0].write_to_path(str(self._folder / "crt"))
        certificate.private_key_pem.write_to_path(str(self._folder / "key"))
        self.authority.cert_pem.write_to_path(str(self._folder / "ca"))

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path)


@pytest.fixture
def port(secret: Secret) -> Iterator[int]:
    """A server with the certificate, and an authority for clients, which over gRPC would need one."""
    server = HttpServer("127.0.0.1", 0, {"/livez": lambda _: Reply(200, b"alive\n")}, 4, certificates=secret.files)
    server.start()
    yield server.port
    server.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_asks_for_no_certificate_of_the_client(secret: Secret, port: int, version: ssl.TLSVersion) -> None:
    context = secret.trusting()
    context.minimum_version = context.maximum_version = version
    assert Web(port, context).get("/livez").body == b"alive\n"


def test_a_name_need_not_be_sent(secret: Secret, port: int) -> None:
    context = secret.trusting()
    context.check_hostname = False
    with (
        socket.create_connection(("localhost", port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain) as caller,
    ):
        caller.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert caller.recv(4096).startswith(b"HTTP/1.0 200 OK")


def test_a_renewed_certificate_is_used_from_the_next_connection_on(secret: Secret, port: int) -> None:
    before = secret.trusting()
    held = Web(port, before).connect()
    held.request("GET", "/livez")
    assert held.getresponse().read() == b"alive\n"
    secret.renew()
    secret.files.reload()
    held.request("GET", "/livez")  # the connection goes on
    assert held.getresponse().read() == b"alive\n"
    held.close()
    assert Web(port, secret.trusting()).get("/livez").status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        Web(port, before).get("/livez")


def test_plain_http_and_noise_get_nothing_and_harm_nobody(
    secret: Secret, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    for noise in (
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0" * 600,
    ):
        with socket.create_connection(("localhost", port), timeout=PATIENCE_S) as caller:
            caller.sendall(noise)
            caller.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in all_of(caller)
    assert Web(port, secret.trusting()).get("/livez").status == 200
    assert caplog.messages == []


def test_whoever_never_shakes_hands_keeps_no_probe_out(secret: Secret, port: int) -> None:
    with ExitStack() as holding:
        for _ in range(20):
            holding.enter_context(socket.create_connection(("localhost", port), timeout=PATIENCE_S))
        for _ in range(3):
            assert Web(port, secret.trusting()).get("/livez").status == 200


def all_of(caller: socket.socket) -> bytes:
    came = b""
    try:
        while part := caller.recv(4096):
            came += part
    except ConnectionResetError:
        pass
    return came
