"""Find out why no connection can be made, by one try of its own.

gRPC names the error of one address only: for `localhost`, it may be the refused [::1] while 127.0.0.1 expects TLS. If a
server closes the connection, gRPC does not say why.
"""

import asyncio
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from progan_client.channel import Settings, Tls
from progan_client.errors import ArgumentError, UnavailableError
from progan_client.target import Address, addresses
from progan_client.translation import never_connected, not_ready

_TRY_S = 1.0  # for each step of a connection
_MAX_ADDRESSES = 4
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # HTTP/2: preface, and settings without content
_SETTINGS = b"\4"  # the type of the first frame that a server sends
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # gRPC connects through them


class Obstacle(NamedTuple):
    """What is in the way; `at_server` if something listens there."""

    at_server: bool
    sentence: str


UNKNOWN_HOST = Obstacle(False, "no such host; check the address")
REFUSED = Obstacle(False, "connection refused; is the service running, and is the port right?")
NO_ROUTE = Obstacle(False, "no route to the host; check the address and the network")
SILENT = Obstacle(False, "no reply; check the address, the network and firewalls")
NOT_GRPC = Obstacle(True, "it answers, but not in gRPC; is this the HTTP port?")
EXPECTS_TLS = Obstacle(True, "it expects TLS; give tls=Tls(root=...)")
NO_TLS = Obstacle(True, "it does not speak TLS; leave out tls=")
UNKNOWN_AUTHORITY = Obstacle(
    True, "its certificate is of an authority that is not trusted here; give that authority by tls=Tls(root=...)"
)
EXPIRED = Obstacle(True, "its certificate has expired")
NOT_YET_VALID = Obstacle(True, "its certificate is not valid yet; check the clocks")
NEEDS_CERTIFICATE = Obstacle(True, "it wants a certificate of the client; give tls=Tls(certificate=..., key=...)")
REFUSES_CERTIFICATE = Obstacle(
    True, "it does not accept the certificate of the client; check tls=Tls(certificate=..., key=...)"
)

# By the codes of OpenSSL's X509_verify_cert_error.
_OF_VERIFICATION = {9: NOT_YET_VALID, 10: EXPIRED, **dict.fromkeys((2, 18, 19, 20, 21), UNKNOWN_AUTHORITY)}
_WRONG_NAME = (62, 64)


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Say in an UnavailableError of the block what keeps the client from connecting."""
    try:
        yield
    except UnavailableError as error:
        _explain(error, settings)
        raise


@asynccontextmanager
async def explained_aside(settings: Settings) -> AsyncIterator[None]:
    """Do the same without blocking the event loop."""
    try:
        yield
    except UnavailableError as error:
        await asyncio.to_thread(_explain, error, settings)
        raise


def _explain(error: UnavailableError, settings: Settings) -> None:
    if never_connected(error.__context__) and (found := obstacle(settings.target, settings.tls)):
        error.args = (not_ready(settings.target, found),)


def obstacle(target: str, tls: Tls | None) -> str:
    """Return what keeps a client from connecting; empty if nothing does, or if it cannot be told.

    If a server listens at one of several addresses, its words count. A try takes seconds at most.
    """
    found = [_at(address, tls) for address in addresses(target)[:_MAX_ADDRESSES] if not _is_behind_a_proxy(address)]
    obstacles = [each for several in found for each in several]
    if None in obstacles:
        return ""
    return max(filter(None, obstacles), default=Obstacle(False, "")).sentence


def _is_behind_a_proxy(address: Address) -> bool:
    host, port = address
    return any(os.environ.get(name) for name in _PROXIES) and not urllib.request.proxy_bypass(f"{host}:{port}")


def _at(address: Address, tls: Tls | None) -> list[Obstacle | None]:
    """Return what is in the way to each network address of a host; None: nothing is."""
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [UNKNOWN_HOST]
    return [_on_the_way((str(ip[0]), port), host, tls) for *_, ip in found[:_MAX_ADDRESSES]]


def _on_the_way(ip: Address, host: str, tls: Tls | None) -> Obstacle | None:
    try:
        return _without_tls(ip) if tls is None else _with_tls(ip, host, tls)
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except OSError:
        return NO_ROUTE


def _without_tls(ip: Address) -> Obstacle | None:
    with socket.create_connection(ip, _TRY_S) as connection:
        answer = _answer(connection)
    if answer[3:4] == _SETTINGS:
        return None
    if _speaks_tls(ip):
        return EXPECTS_TLS
    return NOT_GRPC if answer else None


def _with_tls(ip: Address, host: str, tls: Tls) -> Obstacle | None:
    with socket.create_connection(ip, _TRY_S) as connection:
        try:
            with tls.context().wrap_socket(connection, server_hostname=host) as secured:
                answer = _answer(secured)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _WRONG_NAME:
                return Obstacle(True, f"its certificate is not for {host}; use the name that is in the certificate")
            return _OF_VERIFICATION.get(error.verify_code)
        except ssl.SSLError as error:
            return NO_TLS if error.reason == "WRONG_VERSION_NUMBER" else None
        except (OSError, ArgumentError):  # also: the files are being replaced
            return None
    if answer:
        return None
    return NEEDS_CERTIFICATE if tls.certificate is None else REFUSES_CERTIFICATE


def _speaks_tls(ip: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(ip, _TRY_S) as connection, context.wrap_socket(connection):
            return True
    except OSError:
        return False


def _answer(connection: socket.socket) -> bytes:
    """Return the first bytes of the server after the greeting of HTTP/2; none if it closes the connection."""
    try:
        connection.sendall(_HELLO)
        return connection.recv(9)
    except TimeoutError:
        raise
    except OSError:  # also ssl.SSLError: the server refuses the client in words of TLS
        return b""
