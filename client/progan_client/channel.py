"""Connect to the service: address, credentials, retries, load balancing, health checks, limits."""

import json
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from progan_client.checks import checked_timeout_s
from progan_client.errors import ArgumentError
from progan_client.target import check_target, is_this_machine

SERVICE = "progan.v1.ImageGeneratorService"
DEFAULT_TARGET = "localhost:8500"
MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's own limit is 4 MiB; one raw image of 1024 x 1024 is 3 MiB

_TOKEN = re.compile(r"[!-~]+")

Options = tuple[tuple[str, str | int], ...]

# With both codes the service has sent no images yet. gRPC waits as long as the trailer grpc-retry-pushback-ms says.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
# Retries must not feed an overload. Each failed try costs a token, each success earns a tenth; below half of them gRPC
# does not retry. So a hundred calls that fail at once, when a server dies, are all retried, and a service that goes on
# refusing gets at most a tenth more calls than it answers. All clients of one target in a process share the tokens.
_RETRY_THROTTLING = {"maxTokens": 200, "tokenRatio": 0.1}
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": _RETRY_POLICY}],
    "retryThrottling": _RETRY_THROTTLING,
}
_COMMON: Options = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # gRPC's default backoff, one second to two minutes, is longer than a restart of the service.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # gRPC's default, 30 s, is longer than a rollout of two servers may take: a client would know none of the new ones.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
)

# Requests for images go only to servers that report SERVING, not to servers that load or drain.
IMAGE_OPTIONS: Options = (
    *_COMMON,
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG | {"healthCheckConfig": {"serviceName": SERVICE}})),
)
# Requests for health and models also go to servers that are not ready.
STATE_OPTIONS: Options = (*_COMMON, ("grpc.service_config", json.dumps(_SERVICE_CONFIG)))


@dataclass(frozen=True)
class Tls:
    """Settings of TLS. Every path names a PEM file.

    `root`                 certificate authorities to trust; None: those of gRPC.
    `certificate`, `key`   the client's certificate and private key, for mutual TLS; both or neither.
    """

    root: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ArgumentError("certificate, key", "give both or neither", (self.certificate, self.key))

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raise OSError if one cannot be read, ArgumentError if it is not what it should be."""
        root, key, certificate = (
            path if path is None else Path(path).read_bytes() for path in (self.root, self.key, self.certificate)
        )
        self.context()
        return grpc.ssl_channel_credentials(root, key, certificate)

    def context(self) -> ssl.SSLContext:
        """Return the same settings for Python's own TLS, which says what is wrong with a file."""
        try:
            context = ssl.create_default_context(cafile=self.root)
        except ssl.SSLError:
            raise ArgumentError("root", "must be a PEM file of certificates", str(self.root)) from None
        context.set_alpn_protocols(["h2"])
        if self.certificate is not None and self.key is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password="")
            except ssl.SSLError:
                rule = "must be PEM files of a certificate and its private key, without a passphrase"
                raise ArgumentError("certificate, key", rule, f"{self.certificate}, {self.key}") from None
        return context


@dataclass(frozen=True)
class Settings:
    """Settings of a client, checked when created.

    `target`             HOST:PORT, or another name that gRPC resolves (dns:///..., unix:...).
    `timeout_s`          deadline of a call with one reply, in seconds.
    `stream_timeout_s`   deadline of a whole stream, in seconds.
    `tls`                settings of TLS; None: no encryption.
    `token`              bearer token of every call; needs TLS unless the target is on this machine.
    `allow_plain_token`  send the token without TLS to another machine all the same; others can read it on the way.
    """

    target: str
    timeout_s: float
    stream_timeout_s: float
    tls: Tls | None
    token: str = field(repr=False)
    allow_plain_token: bool = False

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.token and not _TOKEN.fullmatch(self.token):
            raise ArgumentError("token", "must be one word of printable ASCII", "other characters")  # show no secret
        if self.token and self.tls is None and not self.allow_plain_token and not is_this_machine(self.target):
            rule = "needs TLS to another machine, or others could read it; allow_plain_token=True sends it anyway"
            raise ArgumentError("token", rule, self.target)
        checked_timeout_s("timeout_s", self.timeout_s)
        checked_timeout_s("stream_timeout_s", self.stream_timeout_s)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The gRPC metadata of every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def deadline_s(self, timeout_s: float | None) -> float:
        """Return the deadline of a call with one reply, in seconds."""
        return self.timeout_s if timeout_s is None else checked_timeout_s("timeout_s", timeout_s)

    def stream_deadline_s(self, timeout_s: float | None) -> float:
        """Return the deadline of a stream, in seconds."""
        return self.stream_timeout_s if timeout_s is None else checked_timeout_s("timeout_s", timeout_s)
