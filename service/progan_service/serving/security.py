"""Who may call, and over what: bearer tokens and certificates, read from files and kept up to date.

Tokens are held as digests only, and no error, log line or `repr` repeats one.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import ssl
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from progan_service.config import ConfigError, ServerConfig
from progan_service.serving.errors import Unauthenticated

log = logging.getLogger(__name__)

_MIN_TOKEN, _MAX_TOKEN = 16, 4096  # characters: beyond guessing; and fits the metadata, whatever else is there
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, section 2.1

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What files say, as of the last time it could be used."""

    def __init__(self, what: str, read: Callable[[], Value]) -> None:
        """`what` names the value in the log; `read` raises ConfigError, here too, for what cannot be used."""
        self.value = read()
        self._what = what
        self._read = read
        self._problem = ""
        self._told = False

    def reload(self) -> None:
        """Read again. What is broken twice in a row is reported, once: files may be looked at amid being replaced."""
        try:
            value = self._read()
        except Exception as error:  # whatever it is, what was there holds and the next look may be better
            self._report(str(error))
            return
        self._problem = ""
        if value != self.value:
            self.value = value
            log.info("%s changed: the new ones are in use", self._what)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem, self._told = problem, False
        elif not self._told:
            self._told = True
            log.error("%s stay as they were: %s", self._what, problem)


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens: the name of each and its SHA-256. A name may have several."""

    entries: tuple[tuple[str, bytes], ...] = field(repr=False)

    def caller(self, authorization: Sequence[str]) -> str:
        """The name of the token in a call's `authorization` metadata; raises Unauthenticated.

        Takes the same time whichever token it is, and however much of it is right.
        """
        if not authorization:
            raise Unauthenticated("a token is needed: send the metadata `authorization: Bearer TOKEN`")
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("authorization must be given once, as `Bearer TOKEN`")
        given, caller = _digest(token), ""
        for name, known in self.entries:
            if hmac.compare_digest(known, given):
                caller = name
        if not caller:
            raise Unauthenticated("this is no token of this server")
        return caller


def read_tokens(path: Path) -> Tokens:
    """Tokens of a file of lines `NAME TOKEN`; empty lines and those that begin with # are left out.

    Raises ConfigError, which names file, line and rule but repeats neither word: who swaps them has the token first.
    """
    lines_of: dict[bytes, int] = {}
    entries = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, token = _parse(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        first = lines_of.setdefault(_digest(token), number)
        if first != number:
            raise ConfigError(f"{path}, line {number}: has the same token as line {first}")
        entries.append((name, _digest(token)))
    if not entries:
        raise ConfigError(f"{path}: holds no token, so that nobody could call; add a line NAME TOKEN")
    return Tokens(tuple(entries))


def _parse(line: str) -> tuple[str, str]:
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"must be NAME TOKEN, two words; has {len(words)}")
    name, token = words
    if not _NAME.fullmatch(name):
        raise ValueError("the name must have 1 to 32 letters, digits, dots, dashes or underscores")
    if not _MIN_TOKEN <= len(token) <= _MAX_TOKEN:
        rule = f"must have {_MIN_TOKEN} to {_MAX_TOKEN} (`openssl rand -hex 32` makes a good one)"
        raise ValueError(f"the token has {len(token)} characters; {rule}")
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token may have letters, digits and -._~+/= only")
    return name, token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True)
class Certificates:
    """What TLS shows and trusts, in PEM form.

    chain       the server's certificate, then those that vouch for it
    key         the private key of the first of them
    client_ca   whoever signs clients' certificates; None: clients need none
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


def read_certificates(chain: Path, key: Path, client_ca: Path | None) -> Certificates:
    """Read and try them: the key fits, and a client that trusts the certificate would accept it today.

    Raises ConfigError, which names the file and the rule.
    """
    found = _certificates(chain, key, client_ca)
    if client_ca and found.client_ca is not None:
        _trust(client_ca, found.client_ca)
    client = _trust(chain, found.chain)
    _shake_hands(_server_side(chain, key), client, chain)
    if found != _certificates(chain, key, client_ca):  # ssl has read the files anew
        raise ConfigError(f"{chain}: changes while it is read")
    return found


def _certificates(chain: Path, key: Path, client_ca: Path | None) -> Certificates:
    return Certificates(_content(chain), _content(key), _content(client_ca) if client_ca else None)


def _trust(path: Path, pem: bytes) -> ssl.SSLContext:
    """A client's side of TLS that trusts these certificates, whoever signed them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{path}: must hold whole certificates in PEM form") from None
    return context


def _server_side(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(chain, key, password="")  # without one OpenSSL would ask the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key}: is not the key of the first certificate in {chain}") from None
        if error.reason:
            raise ConfigError(f"{chain}: cannot be used: {error.reason}") from None
        raise ConfigError(f"{key}: must hold a whole private key in PEM form, without a passphrase") from None
    except OSError as error:  # gone since it was read
        raise ConfigError(f"{chain}, {key}: cannot be read: {error.strerror}") from error
    return context


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, chain: Path) -> None:
    """A handshake in memory, as far as the client's verdict on the certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client_side, server_side, client_side):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"{chain}: no client would accept it: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConfigError(f"{chain}: cannot be used: {error.reason}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def warnings(config: ServerConfig) -> list[str]:
    """What an operator should know at start, a line each: a server open to strangers, secrets open to other users."""
    lines = []
    if exposed := _exposure(config):
        lines.append(f"listening on {config.host} {exposed}")
    for path in (config.tls_key, config.tokens):
        if path and path.stat().st_mode & stat.S_IROTH:
            lines.append(f"{path} can be read by every user of this machine; chmod o= {path}")
    return lines


def _exposure(config: ServerConfig) -> str:
    known = config.tokens or config.client_ca
    if _is_loopback(config.host) or (config.tls_cert and known):
        return ""
    if config.tls_cert:
        return "without tokens: whoever reaches it may call; set --tokens or --client-ca"
    if known:
        return "without TLS: tokens and images can be read on the way; set --tls-cert and --tls-key"
    return "without TLS and tokens: whoever reaches it may call and read; set --tls-cert, --tls-key and --tokens"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
