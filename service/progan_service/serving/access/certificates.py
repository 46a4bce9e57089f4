"""Certificates for TLS, read from files and tried before they are used. No `repr` contains the key."""

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from progan_service.errors import ConfigError
from progan_service.host.files import content


@dataclass(frozen=True)
class Certificates:
    """The files of TLS, in PEM form.

    chain       the certificate chain: the server's own certificate first
    key         the private key of the server's certificate
    expires_at  when the server's own certificate expires, in seconds since 1970
    client_ca   the certificate of the authority that signs clients' certificates; None: clients need none
    server      the server's side of TLS with them, for clients without certificates
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expires_at: float
    server: ssl.SSLContext = field(repr=False, compare=False)


def read_certificates(chain: Path, key: Path, client_ca: Path | None) -> Certificates:
    """Read the files and try them: the key must fit, and a client that trusts the certificate must accept it today.

    Raises ConfigError, which names the file and the rule.
    """
    paths = [path for path in (chain, key, client_ca) if path]
    found = [content(path) for path in paths]
    authority = found[2] if client_ca else None
    if client_ca and authority is not None:
        _trust(client_ca, authority)
    client, server = _trust(chain, found[0]), _server_side(chain, key)
    expires_at = _shake_hands(server, client, chain)
    if found != [content(path) for path in paths]:  # ssl has read the files a second time
        raise ConfigError(f"{chain}: changed while it was read")
    return Certificates(found[0], found[1], authority, expires_at, server)


def _trust(path: Path, pem: bytes) -> ssl.SSLContext:
    """Return the client's side of TLS that trusts these certificates, whoever signed them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{path}: must contain complete certificates in PEM form") from None
    return context


def _server_side(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(chain, key, password="")  # without a password OpenSSL would ask for one at the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key}: is not the key of the first certificate in {chain}") from None
        if error.reason:
            raise ConfigError(f"{chain}: cannot be used: {error.reason}") from None
        raise ConfigError(f"{key}: must contain a complete private key in PEM form, without a passphrase") from None
    except OSError as error:  # removed since it was read
        raise ConfigError(f"{chain}, {key}: cannot be read: {error.strerror}") from error
    return context


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, chain: Path) -> float:
    """Shake hands in memory until the client has checked the certificate. Return when that expires.

    Raise ConfigError if the client refuses it.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client_side, server_side, client_side):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"{chain}: clients would not accept it: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConfigError(f"{chain}: cannot be used: {error.reason}") from None
    certificate = client_side.getpeercert()
    assert certificate
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
