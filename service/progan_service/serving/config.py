"""The settings of `progan serve`, each declared once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from progan_service.checks import Rule, above, at_least, between, require
from progan_service.settings.field import Settings, setting
from progan_service.store.bundled import BUNDLED_STORE

_PORT = between(0, 65535)
_A_DAY = Rule("must be 86400 (a day) or less", lambda seconds: bool(seconds <= 86_400))  # timers have limits


@dataclass(frozen=True)
class BatchingConfig(Settings):
    """How rows become batches. One row is one image."""

    max_batch_size: int = setting(16, "maximum number of images per batch", at_least(1), group="batching")
    allowed_batch_sizes: tuple[int, ...] = setting(
        (),
        "batch sizes in rising order up to --max-batch-size; a batch is padded to the next size",
        default_help="powers of two",
    )
    max_queued_rows: int = setting(1024, "maximum number of waiting images; a call that does not fit is refused")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.allowed_batch_sizes:
            powers = [2**k for k in range(self.max_batch_size.bit_length()) if 2**k < self.max_batch_size]
            object.__setattr__(self, "allowed_batch_sizes", (*powers, self.max_batch_size))
        sizes = self.allowed_batch_sizes
        require(
            sizes[0] >= 1 and list(sizes) == sorted(set(sizes)) and sizes[-1] == self.max_batch_size,
            "allowed_batch_sizes",
            sizes,
            f"must rise and end with `max_batch_size` {self.max_batch_size}",
        )
        require(
            self.max_queued_rows >= self.max_batch_size,
            "max_queued_rows",
            self.max_queued_rows,
            f"must be at least `max_batch_size` {self.max_batch_size}",
        )


@dataclass(frozen=True)
class LogConfig(Settings):
    """What the server writes to its standard output."""

    log_format: Literal["auto", "text", "json"] = setting(
        "auto", "text, or one JSON object per line; auto: text on a terminal, else JSON", group="logging"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "minimum level of log lines")
    log_requests: bool = setting(True, "log each call, at level info")


@dataclass(frozen=True)
class ServerConfig(Settings):
    """What the server serves, where it listens and how it ends."""

    store: Path | str = setting(
        BUNDLED_STORE,
        "model store: a directory, or a URL that TensorFlow reads",
        group="model store",
        default_help="the bundled models",
    )
    cache: Path | None = setting(
        None, "local copy of a store behind a URL", metavar="DIR", default_help="a temporary directory"
    )
    model: str = setting(
        "",
        "model for requests without a model name",
        metavar="NAME",
        default_help="that of `progan models default`, else the only model of the store",
    )
    poll_s: float = setting(5.0, "seconds between two polls of the store", above(0), _A_DAY)

    host: str = setting(
        "127.0.0.1",
        "address to listen on; 0.0.0.0 accepts calls from other machines",
        group="listening",
        metavar="ADDRESS",
    )
    port: int = setting(8500, "gRPC port; 0 uses a free one", _PORT, metavar="PORT")
    http_port: int = setting(
        8501,
        "HTTP port: a page, images, Connect, REST, /metrics, /livez, /readyz; 0 uses a free one",
        _PORT,
        metavar="PORT",
    )

    playground: bool = setting(True, "answer / of the HTTP port with a page that makes images")

    tls_cert: Path | None = setting(
        None, "PEM file: certificate chain of the server", group="security", default_help="no TLS"
    )
    tls_key: Path | None = setting(None, "PEM file: private key of --tls-cert")
    client_ca: Path | None = setting(
        None,
        "PEM file: authorities for client certificates, which are then required (mutual TLS)",
        default_help="no client certificates",
    )
    tokens: Path | None = setting(
        None,
        "file with lines NAME TOKEN [models=A,B] [images_per_s=N [images_at_once=N]]; each call needs a token of it",
        default_help="no tokens",
    )

    max_images: int = setting(256, "maximum number of images in one unary call", at_least(1), group="limits")
    max_request_bytes: int = setting(
        4 * 2**20,
        "maximum size of a request, in bytes",
        Rule("must be at least 64 KiB", lambda size: bool(size >= 64 * 2**10)),
    )
    max_reply_bytes: int = setting(
        64 * 2**20,
        "maximum size of a reply or of a message of a stream, in bytes",
        Rule("must be at least 4 MiB", lambda size: bool(size >= 4 * 2**20)),
    )

    max_connections: int = setting(
        800, "maximum number of gRPC connections; less where the process may open too few files", between(1, 100_000)
    )
    max_connections_per_address: int = setting(
        0,
        "maximum number of gRPC connections from one address; leave it off behind a proxy, where all callers have the "
        "same address",
        at_least(0),
        default_help="0, no limit",
    )
    max_connection_idle_s: float = setting(
        60.0, "seconds without a call after which a connection is closed; clients open a new one", at_least(1), _A_DAY
    )
    max_connection_age_s: float = setting(
        300.0,
        "seconds after which clients are told to open a new connection, by which they find new servers; calls go on",
        at_least(1),
        _A_DAY,
    )

    max_unsent_bytes: int = setting(
        256 * 2**20,
        "maximum size of the images that are being made or wait for their callers to take them, in bytes; a caller "
        "gets at most half",
    )
    stall_s: float = setting(
        60.0,
        "seconds within which a caller must take a message, or each 2 MiB of a larger one; else the call ends",
        above(0),
    )

    replicas: int = setting(
        1, "batches computed at the same time on CPUs; with GPUs always one per GPU", at_least(1), group="devices"
    )
    precision: Literal["float32", "bfloat16", "auto"] = setting(
        "float32",
        "precision of the arithmetic; auto: bfloat16 for versions whose images stay within 40 dB of float32 and which "
        "are at least 1.1 times as fast",
    )
    hang_s: float = setting(
        60.0,
        "seconds after which a batch, a read of the store or the load of a version counts as hanging; a model whose "
        "batch hangs is not ready until it ends",
        above(0),
        _A_DAY,
    )

    batching: BatchingConfig = field(default_factory=BatchingConfig)

    lame_duck_s: float = setting(
        5.0, "seconds to go on serving after SIGTERM, while not ready", at_least(0), _A_DAY, group="shutdown"
    )
    drain_s: float = setting(20.0, "maximum seconds for the calls in flight after that", at_least(0), _A_DAY)

    logs: LogConfig = field(default_factory=LogConfig)

    revision: str = setting(
        "", "revision of the source that runs, for progan_build_info", group="monitoring", metavar="COMMIT"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.store, str):
            rule = "must be a directory, or a URL such as gs://bucket/models"
            require("://" in self.store, "store", self.store, rule)
        else:
            rule = f"must be left out: `store` {str(self.store)!r} is a directory and needs no copy"
            require(self.cache is None, "cache", str(self.cache), rule)
        least = 2 * self.max_reply_bytes
        rule = f"must be at least twice `max_reply_bytes`, {least}"
        require(self.max_unsent_bytes >= least, "max_unsent_bytes", self.max_unsent_bytes, rule)
        require(self.port == 0 or self.port != self.http_port, "http_port", self.http_port, "must differ from `port`")
        for name, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
            value = getattr(self, name)
            require(not value or getattr(self, needed) is not None, name, str(value), f"needs `{needed}`, too")
