"""How a client reaches the service: address, credentials, retries, balancing, health, limits."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from progan_client.errors import ArgumentError

SERVICE = "progan.v1.ImageGeneratorService"
DEFAULT_TARGET = "localhost:8500"
MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's own limit is 4 MiB; one raw image of 1024 x 1024 is 3 MiB

Options = tuple[tuple[str, str | int], ...]

# Both codes mean that nothing was sent back yet. gRPC waits as long as the trailer grpc-retry-pushback-ms asks for.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": _RETRY_POLICY}],
}
_COMMON: Options = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # gRPC's own backoff, one second to two minutes, would outlast the restart of a service.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

# Pictures are asked only of servers that call themselves ready: servers that load or drain are passed over.
IMAGE_OPTIONS: Options = (
    *_COMMON,
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG | {"healthCheckConfig": {"serviceName": SERVICE}})),
)
# Questions about health and models have to reach a server that is not ready, too.
STATE_OPTIONS: Options = (*_COMMON, ("grpc.service_config", json.dumps(_SERVICE_CONFIG)))

# Targets whose calls never leave this machine.
_THIS_MACHINE = re.compile(r"unix(-abstract)?:.+|((dns|ipv4|ipv6):(///)?)?(localhost|127(\.\d+){3}|\[::1\]):\d+")


@dataclass(frozen=True)
class Tls:
    """TLS to the service; every path names a PEM file.

    `root`                 the authorities to trust; None: those that gRPC brings along.
    `certificate`, `key`   this client's own, where the service asks for one (mTLS); both or neither.
    """

    root: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ArgumentError("certificate, key", "give both or neither", (self.certificate, self.key))

    def credentials(self) -> grpc.ChannelCredentials:
        """The files as gRPC wants them; OSError when one cannot be read."""
        root, key, certificate = (
            path if path is None else Path(path).read_bytes() for path in (self.root, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(root, key, certificate)


@dataclass(frozen=True)
class Settings:
    """What a client holds on to; checked when made.

    `target`             HOST:PORT, or any other name that gRPC resolves (dns:///..., unix:...).
    `timeout_s`          deadline of a call with one answer, in seconds.
    `stream_timeout_s`   deadline of a whole stream, in seconds.
    `tls`                None: plain text.
    `token`              bearer token, sent with every call; to another machine with TLS only.
    """

    target: str
    timeout_s: float
    stream_timeout_s: float
    tls: Tls | None
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        if ":" not in self.target:  # gRPC would take port 443
            raise ArgumentError("target", "must be HOST:PORT", self.target)
        if not (self.token.isascii() and self.token.isprintable()):
            raise ArgumentError("token", "must be printable ASCII", "a text that is not")  # a secret is not repeated
        if self.token and self.tls is None and not _THIS_MACHINE.fullmatch(self.target):
            raise ArgumentError("token", "goes to another machine with TLS only, else it could be read", self.target)
        checked_timeout_s("timeout_s", self.timeout_s)
        checked_timeout_s("stream_timeout_s", self.stream_timeout_s)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def deadline_s(self, timeout_s: float | None) -> float:
        """The deadline of one call with one answer, in seconds."""
        return self.timeout_s if timeout_s is None else checked_timeout_s("timeout_s", timeout_s)

    def stream_deadline_s(self, timeout_s: float | None) -> float:
        """The deadline of one stream, in seconds."""
        return self.stream_timeout_s if timeout_s is None else checked_timeout_s("timeout_s", timeout_s)


def checked_timeout_s(argument: str, value: float) -> float:
    """`value`, or ArgumentError: a call without an end is never made."""
    if not 0 < value < math.inf:
        raise ArgumentError(argument, "must be a number of seconds above 0", value)
    return value
